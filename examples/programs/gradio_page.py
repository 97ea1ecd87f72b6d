"""A page with Gradio that paints as you watch: pip install gramophone gradio; python gradio_page.py."""

import os
from collections.abc import Iterator

import gradio
from PIL import Image

import gramophone

client = gramophone.Client(os.environ.get("GRAMOPHONE_SERVER", "localhost:50051"))


def paint(content: Image.Image, style: Image.Image, size: int, iterations: int) -> Iterator[Image.Image]:
    """Yields the previews of a style transfer, at last its result. Stopping cancels the job."""
    job = client.transfer(content, style, size=size, iterations=iterations)
    try:
        yield from (frame.preview for frame in job if frame.preview)
        yield job.result().image
    finally:
        job.cancel()


sliders = [gradio.Slider(64, 1024, 512, step=1, label="size"), gradio.Slider(10, 500, 200, step=1, label="iterations")]
page = gradio.Interface(paint, [gradio.Image(type="pil"), gradio.Image(type="pil"), *sliders], gradio.Image())

if __name__ == "__main__":
    page.queue().launch()
