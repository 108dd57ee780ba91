"""Training for the photographic generator, on a generator of a few channels."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from evaluation.identity import BLOCKS as DLIB_BLOCKS
from evaluation.identity import DlibFaces
from hyperstyle_export.graphs.builder import save_model
from hyperstyle_export.networks.latent_encoder import FeaturesConfig, LatentEncoder, PictureFeatures
from hyperstyle_export.networks.lpips import ALEXNET
from hyperstyle_export.networks.mobilestylegan import MobileStyleGan, PictureHead, inverse_haar
from hyperstyle_export.readers.mobile_parts import read_latent_encoder
from mobilestylegan_files import TINY, tiny_model
from models import narrow_lpips
from photos.encoder import (
    CURVE,
    EncoderData,
    EncoderRun,
    EncoderTrainer,
    latent_units,
    randomised,
    save_encoder,
)
from photos.errors import PhotosError
from photos.evaluation import Judges, compared
from photos.heads import HeadSamples, fit_head, haar_bands, sample_heads
from photos.renders import RenderSet, draw_latents, read_set, render_set, to_bytes
from photos.ridge import fit_ridge, relative_error
from photos.small import (
    SmallGenerator,
    average_latent,
    build_small_generator,
    read_head,
    save_head,
)
from photos.trunks import load_trunks
from training.randomisation import Chance, Randomisation

BLOCKS = 2
FEATURES = FeaturesConfig(64, widths=(4, 6), face_widths=(3, 4), face_blocks=(1, 1))


@pytest.fixture(scope="module")
def model() -> MobileStyleGan:
    return tiny_model()


@pytest.fixture(scope="module")
def average(model: MobileStyleGan) -> torch.Tensor:
    return average_latent(model)


@pytest.fixture(scope="module")
def whole(model: MobileStyleGan) -> SmallGenerator:
    """The generator's own head after all its blocks."""
    return SmallGenerator(model, model.synthesis.to_img, TINY.blocks)


def random_head(blocks: int) -> PictureHead:
    torch.manual_seed(0)
    head = PictureHead(TINY.channels[blocks], TINY.style_width, 4).requires_grad_(False)
    for style in (head.style, head.detail_style):
        style.weight.mul_(0.5)
        style.bias.fill_(1)  # as of trained ones: a style varies about a scale of its own
    return head


def test_the_bands_of_a_picture_make_that_picture() -> None:
    picture = torch.randn(2, 3, 8, 12)
    assert torch.allclose(inverse_haar(haar_bands(picture)), picture, atol=1e-6)


def test_the_small_generator_with_the_last_head_is_the_generator(
    model: MobileStyleGan, whole: SmallGenerator
) -> None:
    rows = torch.randn(2, TINY.num_latents, TINY.style_width)
    assert whole.side == TINY.resolution
    w = torch.randn(2, TINY.style_width)
    assert torch.equal(whole(w), model.synthesis(w))
    rows[:, -1] = rows[:, -2]  # a head's style is that of the convolution before it
    assert torch.equal(whole(rows), model.synthesis(rows))


def test_the_small_generators_graph_is_its_torch_twin(
    model: MobileStyleGan, tmp_path: Path
) -> None:
    head = random_head(BLOCKS)
    save_model(build_small_generator(model, head, BLOCKS), tmp_path / "small.onnx")
    w = torch.randn(3, TINY.style_width)
    (made,) = ort.InferenceSession(tmp_path / "small.onnx").run(None, {"w": w.numpy()})
    truth = SmallGenerator(model, head, BLOCKS)(w).numpy()
    assert made.shape == truth.shape
    assert np.abs(made - truth).max() < 1e-4 * np.abs(truth).max()


def test_a_set_of_whole_renders_is_averaged(model: MobileStyleGan, tmp_path: Path) -> None:
    render_set(model, None, 1, tmp_path, 3, 4, lambda _: None)
    made = read_set(tmp_path)
    whole = model.synthesis(torch.from_numpy(made.w[:4]))
    small = torch.nn.functional.avg_pool2d(whole, whole.shape[-1] // 16)
    assert made.pictures.shape[1:] == (3, 16, 16)
    assert np.abs(to_bytes(small.numpy()).astype(int) - made.pictures[:4]).max() <= 1


def test_a_head_learns_pictures_that_a_head_made(
    model: MobileStyleGan, average: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted to a generator whose small pictures are exactly a head's, it comes near that head."""
    truth = SmallGenerator(model, random_head(BLOCKS), BLOCKS)
    latents = [draw_latents(model, average, 1, n, 8) for n in range(40)]
    random = torch.Generator().manual_seed(0)
    monkeypatch.setattr(model.synthesis, "forward", lambda w: truth(w))
    samples = HeadSamples.joined(list(sample_heads(model, iter(latents), [BLOCKS], 8, random)))
    fit = fit_head(samples, BLOCKS, average, 40, 800, random, width=16)
    assert fit.held_out_db > fit.least_squares_db + 2
    w = draw_latents(model, average, 2, 0, 16)
    made = SmallGenerator(model, fit.head, BLOCKS)(w)
    error = float((made - truth(w)).square().mean())
    assert 10 * np.log10(4 / error) > fit.least_squares_db + 2  # folded: as good as when fitted


def test_what_a_cut_hides_is_not_fitted(model: MobileStyleGan, average: torch.Tensor) -> None:
    latents = iter([draw_latents(model, average, 1, n, 2) for n in range(30)])
    random = torch.Generator().manual_seed(0)
    samples = HeadSamples.joined(list(sample_heads(model, latents, [1], 6, random)))
    truth = random_head(1)
    whole = model.synthesis.features(samples.w, blocks=1)
    bands = truth.bands(whole, samples.w)
    cut = truth.bands(samples.features[1].float(), samples.w)
    for number, inside in enumerate(samples.inside[1]):
        kept = cut[number][:, inside]
        # Every place that counts has in the cut what it has in the whole.
        near = (kept[:, :, None] - bands[number].flatten(1)[:, None]).abs().amax(0).amin(1)
        assert float(near.max()) < 2e-2
    edges = samples.inside[1].flatten(1).float().mean(1)
    assert 0 < edges.min() < edges.max() <= 1  # some lie at the picture's edge, others do not


def test_a_stored_head_is_the_same(model: MobileStyleGan, tmp_path: Path) -> None:
    head = random_head(BLOCKS)
    save_head(head, BLOCKS, tmp_path / "head.safetensors")
    read = read_head(tmp_path / "head.safetensors", model, BLOCKS)
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), read.parameters(), strict=True))
    with pytest.raises(PhotosError, match="no head for the features after 1 blocks"):
        read_head(tmp_path / "head.safetensors", model, 1)
    (tmp_path / "head.safetensors").write_bytes(b"no")
    with pytest.raises(PhotosError, match="cannot read the head"):
        read_head(tmp_path / "head.safetensors", model, BLOCKS)


def test_a_set_goes_on_where_it_stopped(
    model: MobileStyleGan, average: torch.Tensor, tmp_path: Path
) -> None:
    head, done = random_head(BLOCKS), []
    render_set(model, head, BLOCKS, tmp_path, 3, 257, done.append)
    assert done == [256, 512]
    first = (tmp_path / "0000.npz").read_bytes()
    (tmp_path / "0001.npz").unlink()
    render_set(model, head, BLOCKS, tmp_path, 3, 512, done.append)
    assert (tmp_path / "0000.npz").read_bytes() == first
    made = read_set(tmp_path)
    assert made.pictures.shape == (512, 3, 32, 32)
    w = torch.from_numpy(made.w)
    assert torch.equal(w[256:], draw_latents(model, average, 3, 1, 256))
    painted = to_bytes(SmallGenerator(model, head, BLOCKS)(w[250:260]).numpy())
    assert np.abs(painted.astype(int) - made.pictures[250:260]).max() <= 1
    assert not torch.equal(w[:256], draw_latents(model, average, 4, 0, 256))


def test_psi_is_between_its_bounds(model: MobileStyleGan, average: torch.Tensor) -> None:
    drawn = draw_latents(model, average, 5, 0, 100) - average
    random = np.random.default_rng(5 * 1_000_000)
    z = random.standard_normal((100, TINY.style_width)).astype(np.float32)
    full = model.mapping(torch.from_numpy(z)) - average
    ratios = (drawn * full).sum(1) / full.square().sum(1)
    assert 0.7 <= ratios.min() < 0.75
    assert 0.95 < ratios.max() <= 1


def test_damaged_shards_are_named(tmp_path: Path) -> None:
    with pytest.raises(PhotosError, match="no shards"):
        read_set(tmp_path)
    (tmp_path / "0000.npz").write_bytes(b"PK")
    with pytest.raises(PhotosError, match=r"0000\.npz is damaged"):
        read_set(tmp_path)
    np.savez(tmp_path / "0000.npz", w=np.zeros((2, 3), np.float32), x=np.zeros((1, 3, 4, 4), "u1"))
    with pytest.raises(PhotosError, match="no shard of latents"):
        read_set(tmp_path)


def test_units_bring_deviations_closer_together() -> None:
    torch.manual_seed(0)
    scales = torch.tensor([10.0, 1.0, 0.1])
    turn = torch.linalg.qr(torch.randn(3, 3)).Q
    latents = torch.randn(5000, 3) * scales @ turn + 2
    to = latent_units(latents, latents.mean(0))
    spread = torch.linalg.svdvals((latents - latents.mean(0)) @ to)
    assert spread.max() / spread.min() < 40  # 100 before
    assert abs(float(((latents - latents.mean(0)) @ to).square().mean()) - 1) < 1e-3


def small_encoder() -> LatentEncoder:
    torch.manual_seed(0)
    return LatentEncoder(FEATURES, TINY.style_width)


def test_ridge_regression_finds_a_linear_map() -> None:
    features = torch.randn(300, 400)
    features[:, 40:] *= 0.01  # few directions matter, so few samples suffice
    weight, bias = torch.randn(TINY.style_width, 400) * 0.3, torch.randn(TINY.style_width)
    latents = features @ weight.T + bias
    held_out = (features[200:], latents[200:])
    fit = fit_ridge(features[:200], latents[:200], (30, 370), held_out, (1e-4, 1e-2, 1e2))
    assert fit.held_out < 0.05
    assert fit.damping < 1e2
    assert abs(relative_error(fit(features[200:]), latents[200:]) - fit.held_out) < 1e-6


def test_kinds_of_features_count_alike() -> None:
    """A kind of large numbers does not drown another."""
    features = torch.randn(200, 20)
    latents = features[:, 10:] @ torch.randn(10, 3)
    features[:, :10] *= 1000
    held_out = (features[150:], latents[150:])
    assert fit_ridge(features[:150], latents[:150], (10, 10), held_out, (0.1,)).held_out < 0.05
    assert fit_ridge(features[:150], latents[:150], (20,), held_out, (0.1,)).held_out > 0.5


def random_dlib(widths: tuple[int, ...]) -> DlibFaces:
    """Dlib's network of other widths."""
    weights, before = {"fc": torch.randn(widths[-1], 128)}, widths[0]
    layers = [("conv32_down", 3, widths[0], 7)]
    for name in DLIB_BLOCKS:
        after = widths[("32", "64", "128", "256").index(name.removeprefix("conv").split("_")[0])]
        layers += [(f"{name}/conv1", before, after, 3), (f"{name}/conv2", after, after, 3)]
        before = after
    for name, inputs, outputs, size in layers:
        weights[f"{name}/conv/filters"] = torch.randn(size, size, inputs, outputs) * 0.1
        for key in ("conv/bias", "scale/weights", "scale/biases"):
            weights[f"{name}/{key}"] = torch.randn(outputs)
    return DlibFaces(weights)


def test_the_trunks_take_the_files_weights() -> None:
    lpips, faces = narrow_lpips(ALEXNET), random_dlib((3, 4, 6, 8))
    widths = (len(lpips.convolution(0)[1]), len(lpips.convolution(1)[1]))
    config = FeaturesConfig(64, widths, face_widths=(3, 4, 6))
    features = PictureFeatures(config).requires_grad_(False)
    load_trunks(features, lpips, faces)
    picture = torch.rand(1, 3, 64, 64) * 2 - 1
    _, coarse, known = torch.split(features(picture), list(config.feature_widths), dim=1)
    alexnet = torch.nn.functional.avg_pool2d(lpips.features(picture)[1], config.coarse_cell)
    assert torch.allclose(coarse, alexnet.flatten(1), atol=1e-4 * float(alexnet.abs().max()))
    dlib = torch.nn.functional.avg_pool2d(faces.map(picture, 10), 2).flatten(1)
    assert torch.allclose(known, dlib, atol=1e-3 * float(dlib.abs().max()))
    with pytest.raises(PhotosError, match="other widths"):
        load_trunks(PictureFeatures(FEATURES), lpips, faces)
    with pytest.raises(PhotosError, match="not dlib"):
        load_trunks(features, lpips, torch.nn.Identity())


@pytest.fixture
def data(
    model: MobileStyleGan, average: torch.Tensor, whole: SmallGenerator, tmp_path: Path
) -> EncoderData:
    folder = tmp_path / "train"
    folder.mkdir()
    sets = []
    for seed, count in ((1, 128), (2, 32)):
        w = draw_latents(model, average, seed, 0, count)
        with torch.no_grad():
            sets.append(RenderSet(w.numpy(), to_bytes(whole(w).numpy())))
    np.savez(folder / "0000.npz", w=sets[0].w, x=sets[0].pictures)
    to = latent_units(torch.from_numpy(sets[0].w), average)
    return EncoderData((folder,), sets[1], average, to)


def trainer(run: EncoderRun, data: EncoderData, whole: SmallGenerator, out: Path) -> EncoderTrainer:
    return EncoderTrainer(run, data, small_encoder(), whole, narrow_lpips(ALEXNET), out)


RUN = EncoderRun(
    pictures=32 * 60,
    trunk_rate=2e-3,
    linear_rate=2e-3,
    warmup=64,
    average=0.9,
    randomisation=Randomisation(tone=Chance(0.2)),
)


def test_training_learns_latents_and_writes_its_curve(
    data: EncoderData, whole: SmallGenerator, tmp_path: Path
) -> None:
    trainer(RUN, data, whole, tmp_path / "run").train()
    with (tmp_path / "run" / CURVE).open() as file:
        lines = list(csv.DictReader(file))
    assert [int(line["seen"]) for line in lines] == [0, RUN.pictures]
    assert lines[0]["train_latent"] == ""  # nothing was trained on yet
    assert float(lines[1]["train_latent"]) > 0
    assert all(None not in line for line in lines)  # no value without a column
    assert float(lines[1]["clean_w"]) < 0.8 * float(lines[0]["clean_w"])
    assert float(lines[1]["clean_l2"]) < float(lines[0]["clean_l2"])


def test_a_stopped_run_resumes_with_the_same_weights(
    data: EncoderData, whole: SmallGenerator, tmp_path: Path
) -> None:
    first = trainer(RUN, data, whole, tmp_path / "run")
    first.train(minutes=0)
    assert first.seen == RUN.batch
    slower = replace(RUN, trunk_rate=0.0)
    second = trainer(slower, data, whole, tmp_path / "run")
    assert second.seen == first.seen
    for a, b in zip(first.encoder.parameters(), second.encoder.parameters(), strict=True):
        assert torch.equal(a, b)
    second.train(minutes=0)
    trunks = [one.encoder.features.convs.parameters() for one in (first, second)]
    assert all(torch.equal(a, b) for a, b in zip(*trunks, strict=True))  # the new rate holds
    assert not torch.equal(first.encoder.latent.weight, second.encoder.latent.weight)


def test_a_batch_that_is_never_full_is_refused(
    data: EncoderData, whole: SmallGenerator, tmp_path: Path
) -> None:
    """It was waited for without end. What a killed run has left goes."""
    (tmp_path / "run").mkdir()
    left = tmp_path / "run" / f".{'0' * 32}.hsrt.part"
    left.write_bytes(b"half a checkpoint")
    begun = trainer(replace(RUN, batch=129), data, whole, tmp_path / "run")
    assert not left.exists()
    with pytest.raises(PhotosError, match="128 pictures are fewer than the batch of 129"):
        begun.train()


def test_disturbed_pictures_are_the_same_for_the_same_seed() -> None:
    pictures = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    always = Randomisation(noise=Chance(1.0))
    once, again, other = (randomised(pictures, always, (seed,)) for seed in (1, 1, 2))
    assert once.shape == pictures.shape
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert not torch.equal(once[0], pictures[0])
    assert torch.equal(randomised(pictures, Randomisation(), (1,)), pictures)


def test_a_stored_encoder_is_read_again(model: MobileStyleGan, tmp_path: Path) -> None:
    encoder, average = small_encoder(), torch.randn(TINY.style_width)
    save_encoder(encoder, average, tmp_path / "encoder.safetensors")
    read, stored = read_latent_encoder(tmp_path / "encoder.safetensors", model)
    assert torch.equal(stored, average)
    assert read.features.config == encoder.features.config
    for a, b in zip(encoder.parameters(), read.parameters(), strict=True):
        assert torch.equal(a.half().float(), b)


def test_reconstructions_are_compared_at_256(model: MobileStyleGan) -> None:
    truth = torch.rand(3, 3, 256, 256) * 2 - 1
    figures = compared(truth * 0.5, truth, Judges(narrow_lpips(ALEXNET), None))
    assert torch.allclose(figures.l2, (truth / 2).square().mean((1, 2, 3)), atol=1e-5)
    assert figures.summary().keys() == {"l2", "lpips"}
    assert float(compared(truth, truth, Judges(narrow_lpips(ALEXNET), None)).lpips.max()) < 1e-6


def test_pictures_can_be_painted_for_the_loss(
    data: EncoderData, whole: SmallGenerator, tmp_path: Path
) -> None:
    run = replace(RUN, painted=4, pictures=64)
    one = trainer(run, data, whole, tmp_path / "run")
    convs = one.encoder.features.convs
    before = [p.detach().clone() for p in convs.parameters()]
    one.train()
    assert any(not torch.equal(a, b) for a, b in zip(before, convs.parameters(), strict=True))
    assert all(p.grad is None for p in whole.parameters())
