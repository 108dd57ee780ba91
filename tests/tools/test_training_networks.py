"""The fast forms used in training, against the reference networks and golden numbers."""

from __future__ import annotations

import pickle
from pathlib import Path

import fakeweights
import numpy as np
import pytest
import torch
from hyperstyle_export.networks.config import GeneratorConfig
from hyperstyle_export.networks.generator import Generator
from hyperstyle_export.networks.lpips import ALEXNET, Lpips
from hyperstyle_export.readers.lpips import load_lpips, read_pickled_arrays
from hyperstyle_export.readers.torch_files import CheckpointError
from training.optimisers import orthogonalised
from training.similarity import ArcFace, CurricularFace, load_embedding
from training.synthesis import FastSynthesis

CONFIG = GeneratorConfig((12, 12, 8, 6), style_width=16, mapping_depth=2)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    generator = Generator(CONFIG)
    for layer in (generator.conv1, *generator.convs):  # with noise, as official ones
        layer.noise.weight.data.fill_(0.3)
        layer.activate.bias.data.normal_()
    return generator


def offsets(batch: int, taps: int) -> dict[int, torch.Tensor]:
    """For an ordinary, an up-sampling and a toRGB layer."""
    drawn = {}
    for index in (3, 5, 7):
        out_channels, in_channels, k, _ = CONFIG.layers[index].weight_shape
        drawn[index] = 0.3 * torch.randn(
            batch, out_channels, in_channels, min(k, taps), min(k, taps)
        )
    return drawn


@pytest.mark.parametrize("taps", [0, 1, 3])
def test_fast_synthesis_is_the_reference(generator: Generator, taps: int) -> None:
    latents = torch.randn(3, CONFIG.num_latents, CONFIG.style_width)
    given = offsets(3, taps) if taps else None
    fast = FastSynthesis(generator, torch.float32)(latents, given)
    torch.testing.assert_close(fast, generator(latents, given), atol=2e-5, rtol=1e-5)


def test_one_latent_serves_all_rows(generator: Generator) -> None:
    w = torch.randn(2, CONFIG.style_width)
    fast = FastSynthesis(generator, torch.float32)(w)
    reference = generator(w[:, None].expand(-1, CONFIG.num_latents, -1))
    torch.testing.assert_close(fast, reference, atol=2e-5, rtol=1e-5)


def test_a_lower_resolution_is_the_sum_up_to_there(generator: Generator) -> None:
    """It must not depend on the layers above."""
    w = torch.randn(2, CONFIG.style_width)
    fast = FastSynthesis(generator, torch.float32)
    low = fast(w, None, 8)
    assert low.shape == (2, 3, 8, 8)
    smaller = Generator(GeneratorConfig(CONFIG.channels[:2], CONFIG.style_width, 2))
    state = generator.state_dict()
    smaller.load_state_dict({k: state[k] for k in smaller.state_dict()})
    rows = w[:, None].expand(-1, 4, -1)
    torch.testing.assert_close(low, smaller(rows), atol=2e-5, rtol=1e-5)


def test_gradients_are_the_reference_s(generator: Generator) -> None:
    """Of the offsets, the latents and a kernel, through per-sample convolutions."""
    latents = torch.randn(2, CONFIG.num_latents, CONFIG.style_width, requires_grad=True)
    given = {index: o.requires_grad_() for index, o in offsets(2, 3).items()}
    kernel = generator.convs[1].conv.weight
    wanted = [latents, *given.values(), kernel]
    cotangent = torch.randn(2, 3, 32, 32)
    fast = FastSynthesis(generator, torch.float32)(latents, given)
    ours = torch.autograd.grad((fast * cotangent).sum(), wanted)
    theirs = torch.autograd.grad((generator(latents, given) * cotangent).sum(), wanted)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, atol=2e-3, rtol=1e-4)


def test_bfloat16_stays_close(generator: Generator) -> None:
    latents = torch.randn(2, CONFIG.num_latents, CONFIG.style_width)
    reference = generator(latents)
    fast = FastSynthesis(generator, torch.bfloat16)(latents)
    assert fast.dtype == torch.float32
    assert (fast - reference).square().mean().sqrt() < 0.02 * reference.std()


def test_orthogonalised_evens_out_singular_values() -> None:
    torch.manual_seed(1)
    matrix = torch.randn(12, 30) * torch.logspace(0, -2, 30)
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert values.min() > 0.5 and values.max() < 1.3
    assert torch.equal(orthogonalised(matrix.T), orthogonalised(matrix).T)


def fake_alexnet() -> dict[str, torch.Tensor]:
    """torchvision's names and shapes with the golden recipe's values."""
    shapes = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
    state = {}
    for number, (out_channels, in_channels, k) in zip((0, 3, 6, 8, 10), shapes, strict=True):
        for name, shape in (
            ("weight", (out_channels, in_channels, k, k)),
            ("bias", (out_channels,)),
        ):
            key = f"features.{number}.{name}"
            value = fakeweights.value(f"alexnet.{key}", shape, set())
            state[key] = torch.from_numpy(np.asarray(value))
    return state


def fake_heads() -> dict[str, torch.Tensor]:
    keys = [f"lin{i}.model.1.weight" for i in range(5)]
    widths = (64, 192, 384, 256, 256)
    values = [
        np.abs(fakeweights.normal(f"lpips.{key}", (1, width, 1, 1)))
        for key, width in zip(keys, widths, strict=True)
    ]
    return dict(zip(keys, map(torch.from_numpy, values), strict=True))


@pytest.fixture(scope="module")
def lpips_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A backbone in torchvision's layout and the heads."""
    directory = tmp_path_factory.mktemp("lpips")
    torch.save(fake_alexnet(), directory / "alexnet.pth")
    torch.save(fake_heads(), directory / "alex.pth")
    return directory / "alexnet.pth", directory / "alex.pth"


def test_lpips_is_the_golden_one(lpips_files: tuple[Path, Path], golden_dir: Path) -> None:
    golden = np.load(golden_dir / "misc.npz")["metrics/lpips_alex_fake"]
    a = torch.from_numpy(fakeweights.to_input(fakeweights.image_u8(21, 256, 256)))
    b = 0.8 * a + 0.2 * torch.from_numpy(fakeweights.to_input(fakeweights.image_u8(22, 256, 256)))
    network = load_lpips(*lpips_files)
    with torch.inference_mode():
        one = network(a, b)
        both = network(torch.cat([a, b]), torch.cat([b, -a]))
    np.testing.assert_allclose(one.item(), golden[0], rtol=1e-5)
    np.testing.assert_allclose(both.mean().item(), golden[1], rtol=1e-5)


def test_lpips_reads_pickled_arrays(lpips_files: tuple[Path, Path], tmp_path: Path) -> None:
    """The flax layout: kernels [k,k,I,O] under '.../Conv_n/kernel'."""
    state = fake_alexnet()
    tree = {
        "AlexNet_0": {
            f"Conv_{n}": {
                "kernel": state[f"features.{at}.weight"].numpy().transpose(2, 3, 1, 0),
                "bias": state[f"features.{at}.bias"].numpy(),
            }
            for n, at in enumerate((0, 3, 6, 8, 10))
        },
        "NetLinLayer_0": {"Conv_0": {"kernel": np.zeros((1, 1, 64, 1), np.float32)}},
    }
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(tree))
    a, b = torch.randn(2, 1, 3, 64, 64).clamp(-1, 1)
    expected = load_lpips(*lpips_files)(a, b)
    torch.testing.assert_close(load_lpips(path, lpips_files[1])(a, b), expected)


def test_kernels_of_no_convolution_are_not_taken_for_some(
    lpips_files: tuple[Path, Path], tmp_path: Path
) -> None:
    """A classifier's, for one, has two axes."""
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps({"Dense_0": {"kernel": np.ones((2, 2), np.float32)}}))
    with pytest.raises(CheckpointError, match="holds no flax backbone"):
        load_lpips(path, lpips_files[1])


class _Malicious:
    def __reduce__(self) -> tuple[object, ...]:
        return print, ("run",)


@pytest.mark.parametrize(
    "content", [_Malicious(), {"a": _Malicious()}, ["a list"], {"a": np.array(["text"])}]
)
def test_a_pickle_of_anything_else_is_refused(
    tmp_path: Path, content: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "alexnet.ckpt"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match=r"alexnet\.ckpt is no file of pickled arrays"):
        read_pickled_arrays(path)
    assert capsys.readouterr().out == ""


def test_heads_of_another_network_are_refused() -> None:
    state = fake_alexnet()
    convolutions = [
        (state[f"features.{n}.weight"], state[f"features.{n}.bias"]) for n in (0, 3, 6, 8, 10)
    ]
    assert len(convolutions) == len(ALEXNET)
    heads = [torch.ones(1, width, 1, 1) for width in (64, 128, 256, 512, 512)]  # VGG16's
    with pytest.raises(CheckpointError, match="give the heads of the same network"):
        Lpips(convolutions, heads)


def test_arcface_is_the_golden_one(golden_dir: Path, tmp_path: Path) -> None:
    """Aligned pictures to identity embeddings."""
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in ArcFace().state_dict().items()}
    keys = {f"facenet.{key}" for key in shapes}
    state = {
        key: torch.from_numpy(np.asarray(fakeweights.value(f"facenet.{key}", shape, keys)))
        for key, shape in shapes.items()
    }
    torch.save(state, tmp_path / "arcface.pth")
    a = torch.from_numpy(fakeweights.to_input(fakeweights.image_u8(21, 256, 256)))
    b = 0.8 * a + 0.2 * torch.from_numpy(fakeweights.to_input(fakeweights.image_u8(22, 256, 256)))
    golden = np.load(golden_dir / "misc.npz")["metrics/arcface_embedding"]
    with torch.inference_mode():
        embedded = load_embedding(tmp_path / "arcface.pth")(torch.cat([a, b]))
    np.testing.assert_allclose(embedded.numpy(), golden, atol=5e-6)


def test_curricularface_has_the_official_keys() -> None:
    with torch.device("meta"):
        state = CurricularFace().state_dict()
    assert not any(".res_layer.5." in key or key.startswith("output_layer.4.w") for key in state)
    assert state["output_layer.3.weight"].shape == (512, 25088)
    assert sum(key.endswith("res_layer.4.weight") for key in state) == 3 + 13 + 30 + 3
    assert "output_layer.4.running_var" in state and "body.48.res_layer.3.weight" in state


@pytest.mark.slow
def test_curricularface_is_the_golden_one(golden_dir: Path, tmp_path: Path) -> None:
    """Faces aligned as ArcFace does to identity embeddings."""
    with torch.device("meta"):
        shapes = {k: tuple(v.shape) for k, v in CurricularFace().state_dict().items()}
    keys = {f"facenet.{key}" for key in shapes}
    state = {
        key: torch.from_numpy(np.asarray(fakeweights.value(f"facenet.{key}", shape, keys)))
        for key, shape in shapes.items()
    }
    torch.save(state, tmp_path / "curricularface.pth")
    a = torch.from_numpy(fakeweights.to_input(fakeweights.image_u8(21, 256, 256)))
    b = 0.8 * a + 0.2 * torch.from_numpy(fakeweights.to_input(fakeweights.image_u8(22, 256, 256)))
    golden = np.load(golden_dir / "misc.npz")["metrics/curricular_embedding"]
    network = load_embedding(tmp_path / "curricularface.pth")
    assert isinstance(network, CurricularFace)
    with torch.inference_mode():
        embedded = network.embed(torch.cat([a, b])[:, :, 72:184, 72:184])
    np.testing.assert_allclose(embedded.numpy(), golden, atol=5e-6)
