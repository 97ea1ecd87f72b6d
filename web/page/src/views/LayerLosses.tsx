import { type LayerLoss, LossKind, StyleLoss } from "@gramophone/client";
import { loss, words } from "../lib/format";

/** The terms of the loss, with their shares of it. */
export function LayerLosses({ terms }: { terms: readonly LayerLoss[] }) {
  const total = terms.reduce((sum, term) => sum + term.loss * term.weight, 0);
  if (!(total > 0)) return null;
  return (
    <table class="terms">
      <caption>Terms of the loss</caption>
      <thead class="hidden">
        <tr>
          <th scope="col">Term</th>
          <th scope="col">Share</th>
          <th scope="col">Weighted loss</th>
        </tr>
      </thead>
      <tbody>
        {terms.map((term) => (
          <tr key={`${term.kind} ${term.layer} ${term.region} ${term.styleLoss}`}>
            <th scope="row">{nameOf(term)}</th>
            <td>
              <meter min={0} max={1} value={(term.loss * term.weight) / total}>
                {Math.round((100 * term.loss * term.weight) / total)} %
              </meter>
            </td>
            <td>{loss(term.loss * term.weight)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function nameOf({ kind, layer, region, styleLoss }: LayerLoss): string {
  if (kind === LossKind.TOTAL_VARIATION) return "Total variation";
  const what = kind === LossKind.CONTENT ? "Content" : "Style";
  const how = styleLoss > StyleLoss.GRAM ? `, ${words(StyleLoss[styleLoss] ?? "").toLowerCase()}` : "";
  // The loss of the spectrum compares the pictures themselves, without a layer.
  return `${[what, layer].filter(Boolean).join(" ")}${how}${region === undefined ? "" : `, region ${region + 1}`}`;
}
