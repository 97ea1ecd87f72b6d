// The live widget of a job, for anywidget: picture, loss curve, progress, and a button to cancel.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element with attributes and children. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Creates the drawing of the loss curve; returns the drawing and its path. */
function makeCurve() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "loss curve");
  const path = document.createElementNS(SVG, "path");
  svg.append(path);
  return [svg, path];
}

function render({ model, el }) {
  const picture = make("img", { hidden: "" });
  const [curve, path] = makeCurve();
  const bar = make("progress", { "aria-label": "iterations" });
  const caption = make("span", { class: "caption" });
  const message = make("p", { class: "message", role: "alert" });
  const button = make("button", { type: "button" }, "Cancel");
  el.append(
    make("figure", { class: "gramophone-job" }, picture, curve, bar,
      make("figcaption", {}, caption, button), message),
  );

  let url;
  /** Shows the file in the trait `picture`; the browser recognizes its format. */
  function showPicture() {
    const file = model.get("picture");
    if (!file || file.byteLength === 0) return;
    const next = URL.createObjectURL(new Blob([file]));
    picture.src = next;
    picture.hidden = false;
    if (url) URL.revokeObjectURL(url);
    url = next;
  }

  function showJob() {
    const job = model.get("job");
    picture.alt = `Picture of job ${job.id} after ${job.iteration} iterations`;
    curve.setAttribute("viewBox", `-2 -2 ${job.width + 4} ${job.height + 4}`);
    path.setAttribute("d", job.curve);
    if (job.iterations) {
      bar.max = job.iterations;
      bar.value = job.iteration;
    }
    caption.textContent = job.caption;
    message.textContent = job.message;
    // A message says that canceling failed, so it can be tried again.
    if (job.message) button.disabled = false;
  }

  button.addEventListener("click", () => {
    button.disabled = true;
    model.send({ type: "cancel" });
  });
  model.on("change:picture", showPicture);
  model.on("change:job", showJob);
  showPicture();
  showJob();
  return () => {
    model.off("change:picture", showPicture);
    model.off("change:job", showJob);
    if (url) URL.revokeObjectURL(url);
  };
}

export default { render };
