"""Networks lent for their features, and the teacher's view: real classes with small random weights made here."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel

from dinogen.errors import DinogenError, UsageError
from dinogen.evaluate import metrics
from dinogen.evaluate.detector import Detector
from dinogen.evaluate.extractors import ClipFeatures, InceptionFeatures
from dinogen.evaluate.judge import Judges, judge
from dinogen.evaluate.signal import find_teacher, look, training_signal
from dinogen.images import to_float
from dinogen.teachers import make_teacher
from helpers.drawn_face import draw_faces, save_faces

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """The folder of a whole CLIP, and itself."""
    torch.manual_seed(0)
    text = SIZES | {"vocab_size": 30, "bos_token_id": 1, "eos_token_id": 2}
    vision = SIZES | {"image_size": 32, "patch_size": 8, "projection_dim": 16}
    config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)
    model = CLIPModel(config).eval()
    folder = tmp_path_factory.mktemp("clip")
    model.save_pretrained(folder)
    return folder, model


# CLIP


def test_clip_gives_its_image_embeddings_of_bicubically_resized_images(clip):
    folder, model = clip
    images = draw_faces(5, side=64)
    resized = F.interpolate(images.float(), size=(32, 32), mode="bicubic", antialias=True).round().clamp(0, 255)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = (resized / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    expected = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
    judge = ClipFeatures(str(folder))
    torch.testing.assert_close(judge.features(images).float(), expected)
    assert "image embedding" in judge.method and "32×32, bicubic, antialiased" in judge.method


def test_a_vision_half_without_projection_gives_its_pooled_output(tmp_path):
    torch.manual_seed(0)
    CLIPVisionModel(CLIPVisionConfig(**SIZES, image_size=32, patch_size=8)).save_pretrained(tmp_path / "half")
    half = ClipFeatures(str(tmp_path / "half"))
    assert half.features(draw_faces(3)).shape == (3, 32)
    assert "no projection" in half.method


def test_what_is_no_clip_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(DinogenError, match="is a vit; take a CLIP"):
        ClipFeatures(str(tmp_path))
    with pytest.raises(DinogenError, match="could not be loaded .*hf download") as caught:
        ClipFeatures(str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


def test_a_clip_with_missing_weights_is_refused(clip, tmp_path):
    folder, model = clip
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if "post_layernorm" not in name}
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DinogenError, match="weights are missing, such as vision_model.post_layernorm"):
        ClipFeatures(str(tmp_path))


def test_further_networks_have_figures_of_their_own(clip):
    folder, _ = clip
    samples, reals = draw_faces(16, seed=1), draw_faces(40)
    judges = Judges(Detector(), [ClipFeatures(str(folder))])
    report = judge(samples, reals, judges).report
    features = [judges.others[0].features(images) for images in (samples, reals[:16])]
    assert report["frechet_clip"] == pytest.approx(metrics.frechet_distance(*features))
    assert {"frechet_clip", "kernel_clip"} <= report["real_against_real"].keys() & report["intervals"].keys()
    assert "features_clip" in report["method"]


# Inception


def test_inception_says_what_it_needs(tmp_path):
    try:
        import torch_fidelity  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match="--inception needs torch-fidelity: pip install torch-fidelity"):
            InceptionFeatures("auto")
    else:
        with pytest.raises(UsageError, match="no such file"):
            InceptionFeatures(str(tmp_path / "nothing.pth"))


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """Torch-fidelity's network with random weights, and the file that holds them."""
    fidelity = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity is not installed"
    )

    class Unloaded(fidelity.FeatureExtractorInceptionV3):
        def load_state_dict(self, *arguments, **options):
            return None

    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    torch.manual_seed(0)
    network = Unloaded("random", ["2048"], str(folder / "empty.pth"))
    torch.save(network.state_dict(), folder / "weights.pth")
    save_file(network.state_dict(), folder / "weights.safetensors")
    return network, folder


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_inception_gives_its_last_pooling(inception, name):
    network, folder = inception
    images = draw_faces(2)
    judge = InceptionFeatures(str(folder / name))
    assert torch.equal(judge.features(images).float(), network(images)[0])
    assert "resized to 299×299 as TensorFlow 1 does it" in judge.method


def test_weights_of_another_kind_and_pickles_are_refused(inception, tmp_path):
    torch.save({"layer": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DinogenError, match="other.pth: not torch-fidelity's Inception"):
        InceptionFeatures(str(tmp_path / "other.pth"))
    torch.save(Detector, tmp_path / "pickle.pth")
    with pytest.raises(DinogenError, match="pickle.pth: holds something other than weights"):
        InceptionFeatures(str(tmp_path / "pickle.pth"))


# The teacher's view


@pytest.fixture(scope="module")
def teacher():
    return make_teacher("tiny")


def test_the_shards_name_the_teacher(shards32, teacher, tmp_path):
    assert find_teacher("auto", shards32).specs[32] == teacher.specs[32]
    assert find_teacher("none", shards32) is None
    save_faces(tmp_path / "crops", 1)
    assert find_teacher("auto", tmp_path / "crops") is None
    assert find_teacher("tiny", tmp_path / "crops").specs[32] == teacher.specs[32]


def test_a_teacher_out_of_reach_is_noted_unless_it_was_asked_for(shards32, tmp_path, monkeypatch, capsys):
    manifest = (shards32 / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(manifest.replace('"tiny"', '"./gone"'))
    assert find_teacher("auto", tmp_path) is None
    assert "without the training signal: ./gone: no teacher here" in capsys.readouterr().err
    with pytest.raises(DinogenError, match="./gone: no teacher here.*; pass --teacher DIR"):
        find_teacher("./gone", tmp_path)


def test_the_signal_is_the_distance_of_class_tokens_and_the_drift_of_every_map(teacher):
    reals = draw_faces(40)
    signal, nearest = training_signal(draw_faces(20, seed=1) // 2, reals[:20], reals[20:], teacher)
    tokens = [teacher(to_float(images))["cls"] for images in (draw_faces(20, seed=1) // 2, reals[:20])]
    assert signal["frechet_teacher"] == pytest.approx(metrics.frechet_distance(*tokens), rel=1e-4)
    assert signal["displacement"].keys() == signal["spread"].keys() == teacher.specs[32].shapes().keys()
    real = signal["real_against_real"]
    assert signal["frechet_teacher"] > 2 * real["frechet_teacher"]
    assert all(value > real["displacement"][name] for name, value in signal["displacement"].items())
    assert "not how good it is" in signal["note"]
    assert signal["nearest_real_teacher"] == nearest.distance.median().item() and real["nearest_real_teacher"] == 1


def test_pyramids_of_a_batch_are_enough(teacher):
    tokens, pyramid = look(draw_faces(70), teacher)
    assert len(tokens) == 70 and {len(level) for level in pyramid.values()} == {64}
