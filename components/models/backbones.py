"""Visual backbones: torchvision's ResNets without their pooling and classifier."""

import difflib

import torchvision
from torch import Tensor, nn

from components.core.errors import InputError


def backbone_names() -> list[str]:
    """Return the names of all ResNets (plain, wide, ResNeXt) of the installed torchvision."""
    return torchvision.models.list_models(
        module=torchvision.models, include=["resnet*", "wide_resnet*", "resnext*"]
    )


class TorchvisionBackbone(nn.Module):
    """A torchvision ResNet that ends with layer4.

    Attributes:
        cnn: the ResNet, with ``avgpool`` and ``fc`` replaced by ``nn.Identity``.
        feature_size: channels of the feature map (512 for resnet18, 2048 for resnet50).

    Shape:
        image ``(batch, 3, height, width)``, normalised float
        -> feature map ``(batch, feature_size, height / 32, width / 32)``
    """

    def __init__(self, name: str, zero_init_residual: bool = True) -> None:
        """Build the ResNet called ``name`` with random weights.

        Args:
            name: a torchvision ResNet, such as ``resnet50`` or ``wide_resnet50_2``.
            zero_init_residual: start each residual branch at zero (arXiv 1706.02677).

        Raises:
            InputError: for an unknown name; the message gives the nearest one.
        """
        super().__init__()
        known = backbone_names()
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise InputError(
                f"backbone {name!r} is not a torchvision ResNet; did you mean {nearest!r}? "
                f"Known: {', '.join(known)}"
            )
        self.cnn = torchvision.models.get_model(name, weights=None, zero_init_residual=zero_init_residual)
        self.feature_size: int = self.cnn.fc.in_features
        self.cnn.avgpool = nn.Identity()
        self.cnn.fc = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Return the feature map of layer4; see the class for shapes."""
        cnn = self.cnn
        x = cnn.maxpool(cnn.relu(cnn.bn1(cnn.conv1(image))))  # (batch, 64, height / 4, width / 4)
        for layer in (cnn.layer1, cnn.layer2, cnn.layer3, cnn.layer4):
            x = layer(x)
        return x
