"""From names to a config, from a config to a detector with the right starting weights, or to a refusal."""

import copy
import re

import pytest
import torch

from scenes import make_dataset
from workbook.models.backbones import BACKBONES, find_backbone
from workbook.models.config import build_config, build_model, load_detector, nested_dicts
from workbook.models.detectors import DETECTORS, find_detector
from workbook.models.overrides import parse_overrides
from workbook.models.recipes import Setting, find_recipe, shipped_config
from workbook.models.weights import WeightsError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data"), train_images=1, val_images=1, classes=("a", "b", "c"))


@pytest.fixture
def config_of(dataset):
    def make(detector="faster_rcnn", backbone="resnet18", **more):
        setting = Setting(find_detector(detector), find_backbone(backbone), batch_size=2, epochs=1, iterations=1)
        return build_config(
            dataset=more.pop("dataset", dataset), detector=setting.detector, backbone=setting.backbone,
            schedule=find_recipe("seed").schedule(setting), image_size=(128, 96), batch_size=2, epochs=1, seed=0,
            weights=more.pop("weights", None), **more,
        )

    return make


def random_file(path, state):
    """The same tensors with other numbers, as another training would leave them."""
    torch.manual_seed(5)
    torch.save({k: v + torch.rand_like(v) / 99 if v.is_floating_point() else v for k, v in state.items()}, path)
    return path


# ---- the config ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("backbone", ["resnet50", "swin_t", "pvtv2_b0", "tf_efficientnet_lite0"])
def test_every_detector_takes_every_kind_of_backbone(config_of, detector, backbone):
    config = config_of(detector, backbone)
    own = shipped_config(DETECTORS[detector].config).model
    channels = {"resnet50": (256, 512, 1024, 2048), "swin_t": (96, 192, 384, 768), "pvtv2_b0": (32, 64, 160, 256),
                "tf_efficientnet_lite0": (24, 40, 112, 320)}[backbone]
    levels = own.backbone.out_indices
    assert config.model.backbone.out_indices == tuple(levels)
    wanted = [channels[level] for level in levels]
    if "neck" in own:
        assert config.model.neck.in_channels == wanted
    else:
        assert config.model.bbox_head.in_channels == wanted[-1]
    counts = [part["num_classes"] for part in nested_dicts(config.model) if "num_classes" in part]
    assert counts and set(counts) == {3}


def test_what_is_not_lent_or_counted_stays_as_mmdet_ships_it(config_of):
    config, shipped = config_of("vfnet", "resnet50").model, shipped_config(DETECTORS["vfnet"].config).model
    shipped.bbox_head.num_classes, shipped.backbone.init_cfg = 3, None
    assert config == shipped


@pytest.mark.parametrize("detector", ["faster_rcnn", "cascade_rcnn"])
def test_no_detector_draws_its_samples_on_the_cpu_for_a_gpu(config_of, detector):
    types = [part.get("type") for part in nested_dicts(config_of(detector).model)]
    assert "DeviceRandomSampler" in types and "RandomSampler" not in types


def test_building_leaves_the_shipped_config_alone(config_of):
    first = config_of("faster_rcnn", "swin_t")
    config_of("faster_rcnn", "resnet50")
    assert config_of("faster_rcnn", "swin_t").pretty_text == first.pretty_text  # no trace of the second one


@pytest.mark.parametrize("backbone", ["resnet50", "tf_efficientnet_lite0"])
def test_pictures_are_prepared_as_the_backbone_was_trained(config_of, backbone):
    entry = BACKBONES[backbone]
    for split in ("train", "val"):
        steps = {step["type"]: step for step in config_of("faster_rcnn", backbone).data[split]["pipeline"]}
        assert steps["Normalize"] == {"type": "Normalize", "mean": list(entry.mean), "std": list(entry.std), "to_rgb": True}
        assert steps["Resize"]["img_scale"] == (128, 96)
        assert steps["RandomFlip"]["flip_ratio"] == (0.5 if split == "train" else 0.0)


def test_the_dumped_config_reads_back_the_same(config_of, tmp_path):
    from mmcv import Config

    config = config_of("detr", "resnet50", overrides={"model.bbox_head.num_query": 50})
    config.dump(str(tmp_path / "config.py"))
    assert Config.fromfile(str(tmp_path / "config.py"))._cfg_dict == config._cfg_dict


# ---- overrides -------------------------------------------------------------------------------------------------------


def test_overrides_are_python_literals_or_words():
    text = "optimizer.lr=1e-3 model.rpn_head.anchor_generator.scales=[4] a.b=(1,2) c=SGD d=true e=null f=None g=x=y"
    assert parse_overrides(text) == {
        "optimizer.lr": 0.001, "model.rpn_head.anchor_generator.scales": [4], "a.b": (1, 2), "c": "SGD", "d": True, "e": None,
        "f": None, "g": "x=y"}


@pytest.mark.parametrize("text", ["lr", "=3", "scales=[4, 8]"])
def test_a_piece_that_is_no_assignment_is_refused(text):
    with pytest.raises(ValueError, match="write key=value, without spaces inside"):
        parse_overrides(text)


@pytest.mark.parametrize(("text", "said"), [
    ("runner={'max_epochs':3}", "use the parameter epochs"), ("runner.max_epochs=3", "use the parameter epochs"),
    ("data.val.ann_file=a.json", "use the parameter dataset"), ("data.train={'ann_file':'a'}", "train.ann_file in it is the parameter"),
    ("classes=['a']", "use the parameter dataset"), ("custom_imports.imports=['os']", "the workbook's own modules alone"),
    ("optimizer.lr=1 optimizer.lr=2", "optimizer.lr is given twice"),
])
def test_what_is_not_an_overrides_affair_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        parse_overrides(text)


def test_a_timm_model_of_one_image_size_is_refused(config_of):
    with pytest.raises(ValueError, match="backbone timm/swin_tiny_patch4_window7_224 does not take images of every size"):
        config_of(backbone="timm/swin_tiny_patch4_window7_224")


def test_overrides_reach_dicts_lists_and_new_keys(config_of):
    wanted = {"optimizer.lr": 0.5, "data.train.pipeline.3.flip_ratio": 0.0, "model.test_cfg.rcnn.max_per_img": 7,
              "model.rpn_head.anchor_generator.scales": [4], "optimizer.nesterov": True}
    asked = copy.deepcopy(wanted)
    config = config_of(overrides=wanted)
    assert config.optimizer.lr == 0.5 and config.optimizer.nesterov is True and config.optimizer.momentum == 0.9
    assert config.data.train.pipeline[3]["flip_ratio"] == 0.0 and config.data.val.pipeline[3]["flip_ratio"] == 0.0
    assert config.model.test_cfg.rcnn.max_per_img == 7 and config.model.rpn_head.anchor_generator.scales == [4]
    assert wanted == asked  # mmcv pops from what it is given


@pytest.mark.parametrize(
    ("key", "said"),
    [("optimiser.lr", "unknown key 'optimiser'. Known at this level: model, data, optimizer"), ("lr", "unknown key. Known"),
     ("model.rpn.anchors.scales", "unknown key 'rpn'. Known at this level: type"),
     ("optimizer_config.grad_clp", "unknown key 'grad_clp'. Known at this level: grad_clip"),
     ("data.workers_per_gpu", "unknown key 'workers_per_gpu'"), ("model.test_cfg.rcnn.score_th", "unknown key 'score_th'"),
     ("model.train_cfg.rcnn.sampler.nun", "unknown key 'nun'. Known at this level: type, num"),
     ("data.train.pipeline.99.x", "'99' is not an index below 8"), ("optimizer.lr.x", "nothing below '0.002'")],
)
def test_an_override_that_hits_nothing_is_refused(config_of, key, said):
    with pytest.raises(ValueError, match=f"override {key}: .*{said}"):
        config_of(overrides={key: 1})


# ---- starting weights ------------------------------------------------------------------------------------------------


def swin_names(state):
    """Tensors under the names of Swin's own repository, as its files hold them."""
    swaps = [("stages.", "layers."), ("attn.w_msa.", "attn."), ("ffn.layers.0.0.", "mlp.fc1."), ("ffn.layers.1.", "mlp.fc2."),
             ("patch_embed.projection", "patch_embed.proj")]
    renamed = {"head.weight": torch.ones(1000, 768)}
    for name, value in state.items():
        for ours, theirs in swaps:
            name = name.replace(ours, theirs)
        if not re.match(r"norm\d", name):
            renamed[name] = value
    return {"model": renamed}


def pvt_names(state):
    """Tensors under the names of PVT's own repository: q and kv apart, the 1x1 convolutions as linear layers."""
    swaps = [(r"layers\.(\d)\.0\.projection", r"patch_embed\1.proj"), (r"layers\.(\d)\.0\.norm", r"patch_embed\1.norm"),
             (r"layers\.(\d)\.1\.", r"block\1."), (r"layers\.(\d)\.2\.", r"norm\1."), (r"attn\.attn\.out_proj", "attn.proj"),
             (r"ffn\.layers\.0", "mlp.fc1"), (r"ffn\.layers\.1", "mlp.dwconv.dwconv"), (r"ffn\.layers\.4", "mlp.fc2")]
    renamed = {"head.weight": torch.ones(1000, 256)}
    for name, value in state.items():
        for ours, theirs in swaps:
            name = re.sub(ours, theirs, name)
        name = re.sub(r"^(patch_embed|block|norm)(\d)", lambda m: m[1] + str(int(m[2]) + 1), name)  # counted from 1
        if "in_proj_" in name:
            width = len(value) // 3
            renamed[name.replace("attn.in_proj_", "q.")] = value[:width]
            renamed[name.replace("attn.in_proj_", "kv.")] = value[width:]
        else:
            renamed[name] = value.flatten(1) if re.search(r"fc\d\.weight", name) else value
    return renamed


@pytest.mark.parametrize(
    ("key", "published"),
    [("resnet18", lambda state: {**state, "fc.weight": torch.ones(1000, 512)}), ("swin_t", swin_names), ("pvtv2_b0", pvt_names)],
)
def test_a_published_file_reaches_every_parameter(config_of, tmp_path, key, published):
    state = build_model(config_of(backbone=key)).backbone.state_dict()
    torch.manual_seed(5)
    state = {k: v + torch.rand_like(v) / 99 if v.is_floating_point() else v for k, v in state.items()}
    torch.save(published(state), tmp_path / "published.pth")
    loaded = build_model(config_of(backbone=key, weights=tmp_path / "published.pth")).backbone.state_dict()
    unlike = {name for name, value in loaded.items() if not torch.equal(value, state[name])}
    # mmdet adds norm0 to norm3 behind Swin's stages, and orders the four pixels that are merged in another way
    assert {name for name in unlike if not re.match(r"norm\d|stages.\d.downsample", name)} == set()
    assert key == "swin_t" or not unlike


def test_the_lite_package_reaches_the_detector(config_of):
    path = BACKBONES["tf_efficientnet_lite0"].weights.fetch()
    loaded = build_model(config_of(backbone="tf_efficientnet_lite0", weights=path))
    stem = next(iter(torch.load(path, weights_only=True).values()))
    assert torch.equal(loaded.backbone.body.conv_stem.weight, stem)


@pytest.mark.parametrize(("key", "prefix"), [("resnet18", "module.backbone."), ("swin_t", "backbone."), ("pvtv2_b0", "backbone."),
                                             ("tf_efficientnet_lite0", "module.backbone.")])
def test_the_backbone_of_a_trained_detector_reaches_every_parameter(config_of, tmp_path, key, prefix):
    """Under mmdet's own names, which are others than the published ones."""
    state = build_model(config_of(backbone=key)).backbone.state_dict()
    others = {"backbone.": "rpn_head.rpn_cls.weight", "module.backbone.": "module.rpn_head.rpn_cls.weight"}[prefix]
    path = random_file(tmp_path / "detector.pth", {**{prefix + name: value for name, value in state.items()}, others: torch.ones(10**6)})
    stored = torch.load(path)
    loaded = build_model(config_of(backbone=key, weights=path)).backbone.state_dict()
    assert {name for name in loaded if not torch.equal(loaded[name], stored[prefix + name])} == set()


@pytest.mark.parametrize(("key", "other"), [("resnet18", "resnet50"), ("tf_efficientnet_lite0", "tf_efficientnet_lite1"),
                                            ("swin_t", "resnet18")])
def test_the_backbone_of_another_detector_is_refused(config_of, tmp_path, key, other):
    state = build_model(config_of(backbone=other)).backbone.state_dict()
    path = random_file(tmp_path / "detector.pth", {f"backbone.{name}": value for name, value in state.items()})
    with pytest.raises(WeightsError, match="detector.pth (is not a weight file of this|holds a detector with another backbone than)"):
        build_model(config_of(backbone=key, weights=path))


def test_names_that_mmdets_converter_does_not_expect_are_refused_in_words(config_of, tmp_path):
    """A vision transformer's, whose position embedding has no number."""
    torch.save({"pos_embed": torch.ones(1, 50, 8)}, tmp_path / "vit.pth")
    with pytest.raises(WeightsError, match="vit.pth is not a weight file of this PyramidVisionTransformerV2"):
        build_model(config_of(backbone="pvtv2_b0", weights=tmp_path / "vit.pth"))


def test_mmcv_reads_files_itself_again_after_ours(config_of, tmp_path):
    from mmcv.runner.checkpoint import CheckpointLoader, load_from_local

    path = random_file(tmp_path / "own.pth", build_model(config_of()).backbone.state_dict())
    build_model(config_of(weights=path))
    assert CheckpointLoader._get_checkpoint_loader(str(path)) is load_from_local


# A smaller, an unlike and a deeper sibling: the last one has every tensor that is needed, and more.
@pytest.mark.parametrize(
    ("key", "other"), [("resnet50", "resnet18"), ("pvtv2_b0", "resnet18"), ("pvtv2_b2", "pvtv2_b1"), ("pvtv2_b1", "pvtv2_b2"),
                       ("tf_efficientnet_lite0", "resnet18")]
)
def test_another_models_file_is_refused(config_of, tmp_path, key, other):
    path = random_file(tmp_path / "other.pth", build_model(config_of(backbone=other)).backbone.state_dict())
    with pytest.raises(WeightsError, match="other.pth"):
        build_model(config_of(backbone=key, weights=path))


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
@pytest.mark.parametrize("key", ["resnet18", "swin_t", "tf_efficientnet_lite0"])
def test_a_broken_file_is_refused(config_of, tmp_path, key, name):
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(WeightsError, match=f"{name} cannot be read as weights"):
        build_model(config_of(backbone=key, weights=tmp_path / name))


def test_mmdets_backbones_refuse_a_kind_of_file_that_mmcv_cannot_read(config_of, tmp_path):
    from safetensors.torch import save_file

    save_file(build_model(config_of(backbone="resnet18")).backbone.state_dict(), tmp_path / "own.safetensors")
    with pytest.raises(WeightsError, match="own.safetensors: mmdet's ResNet reads .pth files only"):
        build_model(config_of(backbone="resnet18", weights=tmp_path / "own.safetensors"))


def test_a_file_that_lacks_one_tensor_is_refused(config_of, tmp_path):
    state = build_model(config_of(backbone="resnet18")).backbone.state_dict()
    path = random_file(tmp_path / "file.pth", {name: value for name, value in state.items() if name != "layer2.0.bn1.bias"})
    with pytest.raises(WeightsError, match="1 of its 60 tensors are missing or of another shape, first layer2.0.bn1.bias"):
        build_model(config_of(backbone="resnet18", weights=path))


@pytest.mark.parametrize(("key", "name"), [("resnet18", "layer2.0.bn1.bias"), ("pvtv2_b0", "layers.1.1.0.norm1.bias")])
def test_a_tensor_that_equals_the_initial_one_is_not_missing(config_of, tmp_path, key, name):
    """An all-zero bias, as every new norm has it."""
    model = build_model(config_of(backbone=key))
    assert not model.backbone.state_dict()[name].any()
    path = random_file(tmp_path / "own.pth", model.backbone.state_dict())
    state = torch.load(path)
    state[name].zero_()
    torch.save(state, path)
    loaded = build_model(config_of(backbone=key, weights=path)).backbone.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in state.items())


# ---- a whole detector's weights --------------------------------------------------------------------------------------


def trained(config_of, tmp_path, detector, backbone, classes, name="coco.pth", tmp=None):
    """The checkpoint of this detector, trained on so many classes."""
    config = config_of(detector, backbone)
    for part in nested_dicts(config.model):
        if "num_classes" in part:
            part["num_classes"] = classes
    return random_file(tmp_path / name, build_model(config).state_dict())


@pytest.mark.parametrize(("detector", "classes"), [("faster_rcnn", 80), ("retinanet", 365), ("vfnet", 365), ("detr", 1)])
def test_load_from_takes_all_but_the_class_layers(config_of, tmp_path, detector, classes):
    path = trained(config_of, tmp_path, detector, "resnet18", classes)
    model = build_model(config_of(detector, "resnet18"))
    kept = load_detector(model, path)
    stored, own = torch.load(path), model.state_dict()
    assert kept and all(own[name].shape != stored[name].shape for name in kept)
    assert all("cls" in name or "fc_reg" in name for name in kept)
    assert all(torch.equal(own[name], stored[name]) for name in own if name not in kept)


def test_build_model_loads_what_load_from_names(config_of, tmp_path):
    path = trained(config_of, tmp_path, "faster_rcnn", "resnet18", classes=3)
    model, stored = build_model(config_of(load_from=str(path))), torch.load(path)
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("detector", "backbone", "other_detector", "other_backbone"),
    [("faster_rcnn", "resnet18", "retinanet", "resnet18"), ("vfnet", "resnet50", "retinanet", "resnet50"),
     ("faster_rcnn", "resnet50", "faster_rcnn", "resnet18"), ("faster_rcnn", "pvtv2_b1", "faster_rcnn", "pvtv2_b2")],
)
def test_load_from_refuses_another_detector(config_of, tmp_path, detector, backbone, other_detector, other_backbone):
    path = trained(config_of, tmp_path, other_detector, other_backbone, classes=3)
    with pytest.raises(WeightsError, match="load_from=.*coco.pth: "):
        load_detector(build_model(config_of(detector, backbone)), path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_load_from_takes_a_detector_whatever_stands_before_its_names(config_of, tmp_path, prefix):
    path = trained(config_of, tmp_path, "faster_rcnn", "resnet18", classes=3)
    stored = torch.load(path)
    torch.save({"state_dict": {prefix + name: value for name, value in stored.items()}}, path)
    model = build_model(config_of(load_from=str(path)))
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


def test_load_from_of_another_naming_shows_both_names(config_of, tmp_path):
    path = trained(config_of, tmp_path, "faster_rcnn", "resnet18", classes=3)
    torch.save({f"student.{name}": value for name, value in torch.load(path).items()}, path)
    with pytest.raises(WeightsError, match="The file's first tensor is student.backbone.conv1.weight, the detector's backbone.conv1.w"):
        load_detector(build_model(config_of()), path)


def test_load_from_that_is_not_there_is_refused(config_of, tmp_path):
    with pytest.raises(WeightsError, match="load_from=.*none.pth: no such file"):
        build_model(config_of(load_from=str(tmp_path / "none.pth")))
