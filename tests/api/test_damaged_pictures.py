"""Jobs with damaged pictures run, and the recipe says what is wrong with the pictures."""

import numpy as np
import pytest
from PIL import Image

import gramophone
from tests.harness import ServerProcess, encode

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)).resize((160, 120))
GOOD, HALF = encode(PHOTO, "JPEG"), encode(PHOTO, "JPEG")[:-1200]


@pytest.mark.parametrize("uploaded", [False, True])
def test_the_recipe_has_warnings_about_damaged_pictures(server: ServerProcess, uploaded):
    with gramophone.Client(server.address) as client:
        cut = gramophone.Uploaded(client.upload(HALF)) if uploaded else HALF
        style = gramophone.Style(GOOD, mask=cut)
        result = client.transfer(cut, style, size=32, iterations=1, model="vgg19-random").result()
        field = "sha256" if uploaded else "data"
        first, second = result.recipe["warnings"]
        assert first == f"styles[0].mask.{field} is truncated" + first.partition("is truncated")[2]
        assert second.startswith(f"content.{field} is truncated: the last ")
        whole = client.style(GOOD, size=32, iterations=1, model="vgg19-random").result()
        assert "truncated" not in str(whole.recipe)


def test_an_unreadable_picture_is_refused_with_the_name_of_its_field(server: ServerProcess):
    with gramophone.Client(server.address) as client, pytest.raises(gramophone.InvalidRequestError) as caught:
        client.transfer(GOOD, b"%PDF-1.7 of no use", size=32, iterations=1)
    assert "styles[0].image.data" in str(caught.value)
    assert "is a PDF file, not a picture this server reads" in str(caught.value)
