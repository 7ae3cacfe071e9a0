"""Resizing by products: what Pillow makes of an image, to the bit the same alone and among others, on any device."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

from goulot.backbones import QUICK, BackboneParams, Preprocessing, load
from goulot.resizing import STEP, Side, weights

SIZES = [(375, 500), (96, 96), (120, 150), (427, 640), (1200, 1601), (100, 1000)]
MODELS = [("resnet50", 224, None), ("tf_efficientnet_lite0", 256, 1.0), ("test_efficientnet", 96, None)]


@pytest.fixture(scope="module", params=MODELS, ids=[model for model, _, _ in MODELS])
def preprocessing(request: pytest.FixtureRequest) -> Preprocessing:
    model, size, crop = request.param
    params = BackboneParams(model=model, weights="random", input_size=size, crop_pct=crop)
    return load("any", params).preprocessing


def photograph(height: int, width: int) -> Image.Image:
    whole = Image.fromarray(load_sample_images().images[1])
    return whole.resize((width, height), Image.Resampling.BICUBIC)


def tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@pytest.mark.parametrize("size", SIZES)
def test_products_make_another_image_than_pillow(preprocessing: Preprocessing, size: tuple[int, int]) -> None:
    image, products = photograph(*size), preprocessing.products()
    expected, found = preprocessing.resize("pillow")(image).int(), products(tensor(image)[None])[0].int()
    assert found.shape == expected.shape
    assert (found - expected).abs().float().mean() < 0.03
    assert (found - expected).abs().max() <= 2


def test_products_depend_on_how_many_images_are_resized_together(preprocessing: Preprocessing) -> None:
    products = preprocessing.products()
    images = torch.stack([tensor(photograph(200, 240)).roll(shift, 1) for shift in range(0, 60, 4)])
    together = products(images)
    assert all(torch.equal(products(image[None])[0], one) for image, one in zip(images, together, strict=True))


def test_products_change_a_flat_image(preprocessing: Preprocessing) -> None:
    products = preprocessing.products()
    for value in (0, 1, 200, 255):
        assert (products(torch.full((1, 3, 333, 517), value, dtype=torch.uint8)) == value).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("size", SIZES)
def test_products_of_a_gpu_differ_from_those_of_a_cpu(preprocessing: Preprocessing, size: tuple[int, int]) -> None:
    products, images = preprocessing.products(), tensor(photograph(*size)).repeat(40, 1, 1, 1)
    expected = products(images[:1]).expand(40, -1, -1, -1)
    assert torch.equal(products(images.cuda()).cpu(), expected)
    assert torch.equal(products(images[:1].cuda()).cpu(), expected[:1])


@pytest.mark.parametrize("length", [96, 100, 375, 500, 1601, 8000])
@pytest.mark.parametrize("resized", [32, 96, 224, 256, 299])
def test_a_sum_of_weighted_pixels_is_not_exact(length: int, resized: int) -> None:
    for method in QUICK:
        found = weights(length, Side(resized, 0, resized - 1), method, torch.device("cpu"))
        assert (found.sum(1) == 1).all()
        assert (found / STEP == (found / STEP).round()).all()
        assert 255 * found.abs().sum(1).max() / STEP < 2**24  # what float32 counts up to


def test_products_lose_a_large_photograph(preprocessing: Preprocessing) -> None:
    large = photograph(3000, 4000)
    small = replace(preprocessing, input_size=32)
    expected, found = small.resize("pillow")(large).int(), small.products()(tensor(large)[None])[0].int()
    assert (found - expected).abs().max() <= 2
