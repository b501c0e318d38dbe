"""Every published VirTex model, with the authors' checkpoint of it.

Source of names and addresses: the model zoo of VirTex's public code (kdexd/virtex at 49cb37b). The
authors published no checksums, and no checkpoints of their data-efficiency runs.
"""

from dataclasses import dataclass

from components.core.errors import InputError
from components.core.published import MODELS, TRANSFORMER_OBJECTIVES, PublishedModel
from components.params.reading import nearest

ADDRESS = "https://www.dropbox.com/s/{key}/{name}.pth?dl=1"
DROPBOX_KEYS = {
    "bicaptioning_R_50_L1_H2048": "mbeeso8wyieq8wy",
    "captioning_R_50_L1_H2048": "r6zen9k43m5oo58",
    "token_classification_R_50": "o4p9lki505r0mef",
    "multilabel_classification_R_50": "hbspp3jv3u8h3bc",
    "masked_lm_R_50_L1_H2048": "ldzrk6vem4mg6bl",
    "bicaptioning_R_50_L1_H512": "o9fr69jjqfn8a65",
    "bicaptioning_R_50_L1_H768": "1zxglqrrbfufv9d",
    "bicaptioning_R_50_L1_H1024": "pdat4tvhnqxel64",
    "bicaptioning_R_50_L2_H1024": "ft1vtt4okirzjgo",
    "bicaptioning_R_50_L3_H1024": "5ldo1rcsnrshmjr",
    "bicaptioning_R_50_L4_H1024": "zgiit2wcluuq3xh",
    "bicaptioning_R_50W2X_L1_H1024": "5o198ux709r6376",
    "bicaptioning_R_101_L1_H1024": "bb74jubt68cpn80",
}
BACKBONE_CODES = {"resnet50": "R_50", "wide_resnet50_2": "R_50W2X", "resnet101": "R_101"}


@dataclass(frozen=True, slots=True)
class ZooModel:
    """A published model: the authors' name of it, the paper's set-up and figures, and the address."""

    name: str
    published: PublishedModel
    url: str


def zoo_name(model: PublishedModel) -> str:
    """Return the authors' name: task, backbone, and depth and width of a transformer head."""
    setup = model.setup
    head = f"_L{setup.num_layers}_H{setup.hidden_size}" if setup.objective in TRANSFORMER_OBJECTIVES else ""
    return f"{setup.objective}_{BACKBONE_CODES[setup.backbone]}{head}"


def zoo_model(name: str) -> ZooModel:
    """Return the published model of that name.

    Raises:
        InputError: for an unknown name; names the nearest.
    """
    if name not in ZOO:
        raise InputError(f"unknown model `{name}`{nearest(name, ZOO)}; `virtex zoo list` shows all")
    return ZOO[name]


ZOO = {
    name: ZooModel(name, model, ADDRESS.format(key=DROPBOX_KEYS[name], name=name))
    for model in MODELS
    if (name := zoo_name(model)) in DROPBOX_KEYS
}
