import { expect, test } from "vitest";
import { type Recipe, settingsOf } from "../src/lib/recipe";

const MODEL = { styleLayers: ["conv1_1", "conv2_1"], contentLayers: ["conv4_2"] };
const layer = (name: string, weight: number, loss = "gram") => ({ layer: name, weight, loss });
const style = (sha256: string, more: object = {}) => ({
  sha256,
  width: 64,
  height: 48,
  share: 1,
  mask: null,
  source_mask: null,
  ...more,
});

const TRANSFER: Recipe = {
  kind: "transfer",
  size: 64,
  iterations: 300,
  seed: 7,
  optimizer: "adam",
  init: "content",
  reproducible: true,
  time_limit: null,
  result: { format: "png", bit_depth: 16 },
  content_weight: 1,
  style_weight: 10,
  style_loss: "gram",
  model: { name: "vgg19-slim" },
  content: { sha256: "c" },
  init_image: null,
  styles: [style("s")],
  style_layers: [layer("conv1_1", 0.5), layer("conv2_1", 0.5)],
  content_layers: [layer("conv4_2", 1)],
};

test("only what differs from the contract's defaults is set", () => {
  const { kind, values, styleLayers, contentLayers, content, pictures } = settingsOf(TRANSFER, MODEL);
  expect(values).toEqual({
    "options.model": "vgg19-slim",
    "options.size": "64",
    "options.seed": "7",
    "options.optimizer": "adam",
    "options.init": "content",
    "options.result.bit_depth": "16",
    style_weight: "10",
  });
  expect([kind, content?.sha256]).toEqual(["transfer", "c"]);
  expect([styleLayers, contentLayers, pictures]).toEqual([{}, {}, {}]);
});

test("styles have their weights, scales and masks", () => {
  const styles = [
    style("a", { share: 0.75, width: 128, height: 96 }),
    style("b", { share: 0.25, mask: { sha256: "m" } }),
  ];
  const found = settingsOf({ ...TRANSFER, styles }, MODEL).styles;
  expect(found.map(({ values }) => values)).toEqual([{ weight: "0.75", scale: "2" }, { weight: "0.25" }]);
  expect(found[1]?.pictures).toEqual({ mask: { sha256: "m", name: "mask" } });
});

test("the regions of one map are one style", () => {
  const region = (color: string) => style("s", { mask: { sha256: "m", color }, source_mask: { sha256: "n", color } });
  const found = settingsOf({ ...TRANSFER, styles: [region("#ff0000"), region("#00ff00")] }, MODEL);
  expect(found.pictures["options.canvas_map"]?.sha256).toBe("m");
  expect(found.styles.map(({ pictures }) => pictures.source_map?.sha256)).toEqual(["n"]);
});

test("other layers and losses are kept, and products of weights are taken apart", () => {
  const recipe = {
    ...TRANSFER,
    style_layers: [
      layer("conv1_1", 0.6),
      layer("conv3_1", 0.4),
      layer("conv1_1", 1.2, "spectrum"),
      layer("", 2, "spectrum"),
    ],
    style_losses: [
      { loss: "gram", weight: 1 },
      { loss: "spectrum", weight: 2 },
    ],
  };
  const { styleLayers, values } = settingsOf(recipe, MODEL);
  expect(styleLayers).toEqual({ conv1_1: "0.6", conv3_1: "0.4" });
  expect(values["options.style_losses"]).toBe("gram=1, spectrum=2");
  expect(values["options.style_loss"]).toBeUndefined();
});
