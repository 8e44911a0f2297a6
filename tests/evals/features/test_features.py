"""Extractors: agreement with clean-fid on its own code path, resizing, weight files, bad input."""

import contextlib
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image

from kdist.compat import repair_torchvision
from kdist.evals.features import build_extractor, full_precision
from kdist.evals.features.extraction import extract
from kdist.evals.features.resize import resize_and_crop, resize_square

# torch announces TorchScript's end at each use; the published networks come in no other form
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning"),  # clean-fid's call of sqrtm
]


def write_images(folder, count, seed, size=(24, 20), spread=60):
    """Random PNGs of several shapes and modes: colour, grey, palette, with alpha."""
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        shape = (size[0] + i % 3, size[1], 3)
        pixels = (generator.normal(128, spread, shape)).clip(0, 255).astype(np.uint8)
        mode = ["RGB", "RGB", "L", "P", "RGBA"][i % 5]
        Image.fromarray(pixels).convert(mode).save(folder / f"{i:03d}.png")


def exact_frechet(a, b):
    """Squared Fréchet distance of two Gaussians, in float64 through symmetric eigenvalues only."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(a, rowvar=False))
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ np.cov(b, rowvar=False) @ root).clip(0)
    traces = np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False))
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + traces - 2 * np.sqrt(cross).sum()


def test_inception_is_clean_fid(weights_folder, tmp_path, monkeypatch):
    """clean-fid's own extraction and ours, folder to features, and the pooled FID of both."""
    repair_torchvision()
    from cleanfid import features as cleanfid_features
    from cleanfid import fid

    write_images(tmp_path / "a", 64, seed=1)
    write_images(tmp_path / "b", 64, seed=2, spread=50)
    # clean-fid looks into the system's temporary folder, except on Windows, where it looks into the working one
    monkeypatch.chdir(weights_folder)
    monkeypatch.setattr(cleanfid_features.platform, "system", lambda: "Windows")
    network = cleanfid_features.build_feature_extractor("clean", torch.device("cpu"), use_dataparallel=False)
    theirs = [
        fid.get_folder_features(str(tmp_path / s), network, num_workers=0, device="cpu", mode="clean", verbose=False)
        for s in "ab"
    ]
    ours_network = build_extractor("inception", device="cpu", weights=weights_folder, allow_unknown_weights=True)
    ours = [extract(tmp_path / s, ours_network, batch_size=50).x for s in "ab"]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == (64, 2048)
        assert mine.std() > 0.05
        # the same float32 operations; only the batch size differs (50 against 128), which reorders sums: 1e-7 each
        np.testing.assert_allclose(mine, other, atol=1e-5)

    few = slice(None, None, 52)  # 40 of the features: clean-fid's matrix square root takes a minute for 2048
    clean = fid.fid_from_feats(theirs[0][:, few], theirs[1][:, few])
    exact_ours, exact_theirs = (exact_frechet(x[:, few], y[:, few]) for x, y in (ours, theirs))
    assert exact_ours > 0.01
    assert clean == pytest.approx(exact_ours, rel=1e-4)
    # whose error the rest is: the features give one FID to 1e-6; what is left is clean-fid's square root
    assert exact_ours == pytest.approx(exact_theirs, rel=1e-6)


def test_clip_is_clean_fid(tmp_path):
    """clean-fid's CLIP class on a small network in the published format (TorchScript, float16)."""
    repair_torchvision()
    from cleanfid import fid
    from cleanfid.clip_features import CLIP_fx, img_preprocess_clip
    from clip.model import CLIP

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIP(16, 224, 1, 64, 32, 8, 20, 64, 1, 1).eval()
    traced = torch.jit.trace(model, (torch.zeros(1, 3, 224, 224), torch.zeros(1, 8, dtype=torch.int64)))
    file = tmp_path / "stand-in.pt"
    torch.jit.save(traced, str(file))
    write_images(tmp_path / "images", 10, seed=3, size=(40, 60))
    write_images(tmp_path / "images" / "more", 5, seed=4, size=(300, 260))
    theirs = fid.get_folder_features(
        str(tmp_path / "images"), CLIP_fx(str(file), device="cpu"), num_workers=0, device="cpu",
        custom_fn_resize=img_preprocess_clip, verbose=False,
    )  # fmt: skip
    extractor = build_extractor("clip", device="cpu", weights=file, allow_unknown_weights=True)
    labels = tmp_path / "labels.csv"
    names = sorted(p.relative_to(tmp_path / "images").as_posix() for p in (tmp_path / "images").rglob("*.png"))
    labels.write_text("".join(f"{name},0\n" for name in names))
    ours = extract(tmp_path / "images", extractor, labels=labels)
    assert ours.x.shape == (15, 16)
    assert ours.x.std() > 0.05
    np.testing.assert_allclose(ours.x, theirs, atol=1e-5)  # same float32 operations, other batch sizes


def test_dinov2_local_folder(tmp_path):
    """Through transformers, from a folder with safetensors; the class token of normalised 224x224 images."""
    repair_torchvision()
    from transformers import Dinov2Config, Dinov2Model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = Dinov2Config(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
        model = Dinov2Model(config).eval()
    model.save_pretrained(tmp_path / "net")
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    features = extract(image[None], build_extractor("dinov2", device="cpu", weights=tmp_path / "net"))
    resized = resize_square(224).on_cpu(image)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = model((resized[None] / 255 - mean[:, None, None]) / std[:, None, None]).pooler_output
    np.testing.assert_allclose(features.x, expected.numpy(), atol=1e-5)
    with pytest.raises(ValueError, match=r"neither a folder .* nor a reachable hub model"):
        build_extractor("dinov2", device="cpu", weights=tmp_path / "nothing")


def test_pixels_are_on_k_diffusion_scale():
    images = np.array([[[0, 255], [51, 204]], [[255, 255], [0, 0]]], dtype=np.uint8)
    x = extract(images, "pixels").x
    np.testing.assert_allclose(x, [[-1, 1, -0.6, 0.6], [1, 1, -1, -1]], atol=1e-6)  # float32 of x / 127.5 - 1


def test_callables_and_torchscript_files(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    mean = extract(images, lambda x: x.mean((2, 3)))
    np.testing.assert_allclose(mean.x, images.mean((1, 2)), rtol=1e-5)  # float32 sums of 42 values
    assert mean.metadata["weights"] is None  # nothing tells which function it was
    module = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten())
    torch.jit.script(module).save(str(tmp_path / "net.pt"))
    named = extract(images, build_extractor(tmp_path / "net.pt", device="cpu"))
    direct = extract(images, build_extractor(module, device="cpu"))
    np.testing.assert_array_equal(named.x, direct.x)
    assert named.metadata["weights"] == hashlib.sha256((tmp_path / "net.pt").read_bytes()).hexdigest()
    sized = extract(images, build_extractor(module, device="cpu", size=10))
    assert not np.allclose(sized.x, direct.x)
    with pytest.raises(ValueError, match=r"must return \(5, d\) features"):
        extract(images, lambda x: x.mean())


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 1), (64, 50, 3), (320, 500, 3), (320, 500, 1)])
def test_pil_resize_is_clean_fids_to_the_last_bit(shape):
    """Black and white noise, whose bicubic overshoot is clipped; grey becomes three equal channels."""
    make_resizer = pytest.importorskip("cleanfid.resize").make_resizer
    image = np.random.default_rng(0).choice(np.array([0, 100, 255], dtype=np.uint8), shape)
    expected = make_resizer("PIL", False, "bicubic", (299, 299))(np.broadcast_to(image, (*shape[:2], 3)))
    np.testing.assert_array_equal(resize_square(299).on_cpu(image).numpy(), expected.transpose(2, 0, 1))


@pytest.mark.parametrize("shape", [(32, 32), (300, 400), (64, 96), (1, 9), (299, 299)])
@pytest.mark.parametrize("make", [resize_square, resize_and_crop])
def test_torch_resize_is_close_to_pils(shape, make):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    image[: shape[0] // 2] = np.where(image[: shape[0] // 2] > 127, 255, 0)  # hard edges overshoot and are clipped
    size = 299 if make is resize_square else 224
    with_pil, with_torch = make(size).on_cpu(image).float(), make(size, "torch")
    difference = (with_torch.on_device(with_torch.on_cpu(image)[None])[0] - with_pil).abs()
    assert difference.shape == (3, size, size)
    torch.testing.assert_close(with_torch.difference(image), difference, atol=0, rtol=0)
    if make is resize_square:
        # same kernel, float32 coefficients against PIL's float64: 255 * 2^-24 * some hundred terms
        assert float(difference.max()) < 0.01
    else:
        # both round to 8 bits after each of two passes, so that a tie in each (exact halves occur on 8-bit input,
        # and fall by the last bit of the coefficients) adds up to 2; ties are rare
        assert float(difference.max()) <= 2
        assert float(difference.mean()) < 0.02


def test_torch_resize_is_stated_in_the_metadata(weights_folder):
    images = np.random.default_rng(0).integers(0, 256, (4, 20, 30, 3), dtype=np.uint8)
    options = {"device": "cpu", "weights": weights_folder, "allow_unknown_weights": True}
    with_pil = extract(images, build_extractor("inception", **options))
    with_torch = extract(images, build_extractor("inception", resize="torch", **options))
    assert "resize_difference" not in with_pil.metadata
    assert 0 < with_torch.metadata["resize_difference"]["max"] < 0.01
    assert with_torch.metadata["resize_difference"]["images"] == 4
    # the network's linear map is a contraction of about 1: 0.01 of 255 cannot move a feature by 1e-3
    np.testing.assert_allclose(with_torch.x, with_pil.x, atol=1e-3)


def test_grey_and_colour_of_one_picture_agree(weights_folder):
    grey = np.random.default_rng(0).integers(0, 256, (3, 20, 30), dtype=np.uint8)
    extractor = build_extractor("inception", device="cpu", weights=weights_folder, allow_unknown_weights=True)
    colour = np.repeat(grey[..., None], 3, axis=3)
    np.testing.assert_array_equal(extract(grey, extractor).x, extract(colour, extractor).x)


def test_images_of_different_shapes_keep_their_order():
    """Equal shapes are resized together; rows must still come back in the order of the images."""
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 256, (4 + i % 3, 5, 3), dtype=np.uint8) for i in range(9)]
    extractor = build_extractor("pixels", device="cpu", size=8, resize="torch")
    together = extractor([extractor.preprocessing.on_cpu(image) for image in images])
    alone = np.concatenate([extractor([extractor.preprocessing.on_cpu(image)]) for image in images])
    np.testing.assert_array_equal(together, alone)
    few = [extractor.preprocessing.on_cpu(image) for image in images[:7]]  # groups of three, two and two
    np.testing.assert_array_equal(extractor(few), alone[:7])
    pixels = build_extractor("pixels", device="cpu")
    with pytest.raises(ValueError, match="needs images of one shape"):
        pixels([pixels.preprocessing.on_cpu(image) for image in images])


def test_full_precision_restores_the_settings():
    torch.set_float32_matmul_precision("medium")
    try:
        with contextlib.suppress(KeyError), full_precision(torch.device("cpu")):
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
            raise KeyError
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_autocast_around_does_not_reach_the_network():
    extractor = build_extractor(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 4)), device="cpu")
    images = [torch.rand(1, 4, 4) * 255 for _ in range(3)]
    expected = extractor(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(extractor(images), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "inceptoin"}, "extractor must be one of inception"),
        ({"name": 3}, "must be a name, a path or a callable; got int"),
        ({"name": "pixels", "weights": "w.pt"}, "'pixels' has no option 'weights'"),
        ({"name": "digits", "size": 8}, "'digits' has no option 'size'"),
        ({"name": "digits", "resize": "torch"}, "'digits' has no option 'resize'"),
        ({"name": "pixels", "resize": "opencv"}, "resize must be 'pil' or 'torch'"),
        ({"name": "pixels", "key": "v1"}, "'pixels' has no option 'key'"),
        ({"name": "dinov2", "allow_unknown_weights": True}, "'dinov2' has no option 'allow_unknown_weights'"),
        ({"name": "pixels", "device": "gpu"}, "device must be auto, cpu, cuda"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        build_extractor(**options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="about machines without a GPU")
def test_cuda_absent():
    with pytest.raises(ValueError, match=r"sees no CUDA GPU; use device='cpu'"):
        build_extractor("pixels", device="cuda")
    assert build_extractor("pixels", device="auto").device.type == "cpu"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu(weights_folder):
    images = np.random.default_rng(0).integers(0, 256, (8, 20, 30, 3), dtype=np.uint8)
    options = {"weights": weights_folder, "allow_unknown_weights": True, "resize": "torch"}
    on_cpu, on_gpu = (extract(images, build_extractor("inception", device=d, **options)).x for d in ("cpu", "cuda"))
    np.testing.assert_allclose(on_gpu, on_cpu, atol=1e-3)  # float32 sums of 507 terms in another order; TF32 gives 1e-2


def test_missing_torchscript_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="no TorchScript file"):
        build_extractor(tmp_path / "absent.pt")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    with pytest.raises(ValueError, match="not a TorchScript file"):
        build_extractor(tmp_path / "junk.pt")
