"""A feature pyramid on a network of timm, for torchvision's detectors."""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from timm.layers import freeze_batch_norm_2d  # type: ignore[attr-defined]  # documented, not in its __all__
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

from components import params
from components.models.backbones import build_backbone
from components.models.timm_backbones import pyramid_levels, require_pyramid


class TimmFpn(nn.Module):
    """The last feature map of each stride from 4 to 32 through a feature pyramid, as of a ResNet.

    Shape:
        images ``(batch, 3, height, width)``, both multiples of 32 -> five maps ``(batch, channels, ...)`` of
        the strides 4 to 64
    """

    def __init__(
        self,
        architecture: str,
        weights: Mapping[str, Tensor],
        channels: int,
        settings: params.Detection,
    ) -> None:
        """Build the network and its pyramid.

        Args:
            architecture: name of the network, ``timm/...``.
            weights: by timm's names.
            channels: of the pyramid.
            settings: of which ``norm`` is that of the pyramid, and ``frozen`` keeps the statistics of the
                network's own batch normalisation; ``freeze_at`` is 0, or 5 to train nothing of the network.

        Raises:
            InputError: if the network lacks one of these maps.
        """
        super().__init__()
        require_pyramid(architecture)
        with torch.random.fork_rng(devices=[]):
            self.body = build_backbone(architecture).cnn
        self.body.load_state_dict(dict(weights))
        levels = pyramid_levels(self.body)
        assert levels is not None
        self.indices = [index for index, _ in levels]
        if settings.freeze_at:
            self.body.requires_grad_(False)
        if settings.freeze_at or settings.norm == "frozen":
            freeze_batch_norm_2d(self.body)
        norm = nn.BatchNorm2d if settings.norm == "batch" else None
        self.fpn = FeaturePyramidNetwork(
            [size for _, size in levels], channels, extra_blocks=LastLevelMaxPool(), norm_layer=norm
        )
        self.out_channels = channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """Return the maps by name, ``0`` to ``3`` and ``pool``, the finest first."""
        maps = self.body.forward_intermediates(
            images, indices=self.indices, intermediates_only=True, output_fmt="NCHW"
        )
        pyramid: OrderedDict[str, Tensor] = self.fpn(
            OrderedDict((str(level), features) for level, features in enumerate(maps))
        )
        return pyramid
