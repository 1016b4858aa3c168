"""The Lightning module of all strategies."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, replace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from csl_tracker.heatmaps import decode, encode
from csl_tracker.instruments import IGNORE_LABEL, find_instruments
from csl_tracker.losses import Losses, LossWeights, consistency_loss, network_loss
from csl_tracker.networks import Network, NetworkOutput
from csl_tracker.pixels import Resize, Size
from csl_tracker.training.association import offset_loss, offset_targets
from csl_tracker.training.config import TrainConfig
from csl_tracker.training.cpu import ease_convolutions
from csl_tracker.training.left_right_task import side_axis, side_loss, side_targets
from csl_tracker.weights import Preprocessing

CHECKPOINT_KEY = "csl_tracker"
"""Checkpoint key of this package's data: configuration, elapsed seconds, metrics of the last validation."""

_HIT_PX = 5.0
"""Maximum distance of a hit in the validation metrics, heatmap px."""


class TrackingModule(pl.LightningModule):
    """Trains a network of any strategy; logs loss, DICE and localisation error on held-out frames."""

    def __init__(self, network: Network, config: TrainConfig, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        ease_convolutions(self.network)
        self.config = config
        self.weights = LossWeights(config.heatmap_weight, config.regression_weight)
        self.seconds_before = 0.0
        self.started = time.monotonic()
        self.spec = config.heatmap.spec()
        self.side_axis = side_axis(find_instruments(config.instruments)) if config.side_weight else None
        self.side_head: nn.Conv2d | None = None
        self.features: Tensor | None = None
        score_head = getattr(network, "score_head", None)
        if self.side_axis is not None and isinstance(score_head, nn.Conv2d):
            # The head uses the features of the segmentation head and is not exported.
            self.side_head = nn.Conv2d(score_head.in_channels, 1, 1)
            score_head.register_forward_pre_hook(self._keep_features)
        mean, std = torch.tensor(preprocessing.mean), torch.tensor(preprocessing.std)
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, 3, 1, 1), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def _keep_features(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.features = inputs[0]

    def forward(self, image: Tensor) -> NetworkOutput:
        """Map uint8 (N, h, w, 3) RGB to the network's outputs."""
        x = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return self.network(x.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def _losses(self, batch: dict[str, Tensor]) -> tuple[Losses, NetworkOutput]:
        twice = "second" in batch
        if twice:
            batch = _both_views(batch)
        output = NetworkOutput(*(None if tensor is None else tensor.float() for tensor in self(batch["image"])))
        height, width = batch["labels"].shape[-2:]
        targets = None if output.heatmaps is None else encode(batch["points"], (height, width), self.spec)
        # Map px to the unit of NetworkOutput.points: Resize of csl_tracker.pixels, for tensors.
        unit = (batch["points"] + 0.5) / batch["points"].new_tensor((width, height)) - 0.5
        losses = network_loss(output, targets, unit, batch["labels"], batch["labelled"], self.weights, batch.get("unasked"))
        if self.side_head is not None and self.side_axis is not None and self.features is not None:
            sides = self.side_head(self.features)[..., :height, :width].float()
            sided = side_loss(sides, *side_targets(batch["points"], batch["labels"], self.side_axis))
            losses = replace(losses, side=self.config.side_weight * sided)
        if output.offsets is not None:
            targets_of = offset_targets(batch["anchors"], batch["instances"], batch["labels"], batch["points"])
            associated = self.config.association_weight * offset_loss(output.offsets, *targets_of)
            losses = replace(losses, association=associated)
        if twice:
            difference = consistency_loss(output, self.weights)
            losses = replace(losses, consistency=self.config.consistency_weight * difference)
        return losses, output

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        """Compute and log the loss of a batch."""
        losses, _output = self._losses(batch)
        count = len(batch["image"])
        self.log("train/loss", losses.total.detach(), prog_bar=True, on_step=True, on_epoch=True, batch_size=count)
        for name, part in _parts(losses).items():
            self.log(f"train/{name}", part.detach(), on_step=True, batch_size=count)
        return losses.total

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Stop on a non-finite loss before it changes the weights."""
        loss = self.trainer.callback_metrics.get("train/loss_step")
        if loss is not None and not math.isfinite(float(loss)):
            raise NonFiniteLossError(self.global_step)

    def validation_step(self, batch: dict[str, Tensor], _: int, dataloader_idx: int = 0) -> None:
        """Log loss, DICE and localisation error of a validation batch."""
        losses, output = self._losses(batch)
        count = len(batch["image"])
        values: dict[str, Any] = {"loss": losses.total, **_parts(losses)}
        prefix = f"val{dataloader_idx}" if dataloader_idx else "val"
        known = batch["labels"] != IGNORE_LABEL
        segmented = known.any(dim=2).any(dim=1)
        if output.scores is not None and segmented.any():
            found = (output.scores.argmax(dim=1) > 0) & known
            truth = (batch["labels"] > 0) & known
            both = (found & truth).sum(dim=(1, 2))
            dice = ((2 * both + 1e-6) / (found.sum(dim=(1, 2)) + truth.sum(dim=(1, 2)) + 1e-6))[segmented]
            self.log(f"{prefix}/dice", dice.mean(), batch_size=len(dice), add_dataloader_idx=False, prog_bar=True)
        for key, value in values.items():
            self.log(f"{prefix}/{key}", value, batch_size=count, add_dataloader_idx=False, prog_bar=key == "loss")
        errors = self._errors(output, batch["points"], (batch["labels"].shape[-2], batch["labels"].shape[-1]))
        if errors:
            count = len(errors)
            self.log(f"{prefix}/error_px", sum(errors) / count, batch_size=count, add_dataloader_idx=False, prog_bar=True)
            hits = sum(error < _HIT_PX for error in errors) / count
            self.log(f"{prefix}/hits", hits, batch_size=count, add_dataloader_idx=False)

    def _errors(self, output: NetworkOutput, points: Tensor, size: Size) -> list[float]:
        """Distance of each visible landmark to the nearest guess, heatmap px; one guess per instrument."""
        errors = []
        for frame, instruments in enumerate(points.cpu().numpy()):
            visible = np.isfinite(instruments).all(axis=-1)
            for landmark, guesses in enumerate(self._guesses(output, frame, max(1, int(visible.any(axis=1).sum())), size)):
                for x, y in instruments[visible[:, landmark], landmark]:
                    errors.append(min((math.hypot(u - x, v - y) for u, v in guesses), default=math.hypot(*size)))
        return errors

    def _guesses(self, output: NetworkOutput, frame: int, count: int, size: Size) -> list[list[tuple[float, float]]]:
        """The best guesses of each landmark in one frame, heatmap px."""
        if output.heatmaps is not None:
            peaks = decode(output.heatmaps[frame].cpu().numpy(), self.spec, count)
            return [[(peak.x, peak.y) for peak in found] for found in peaks]
        assert output.points is not None
        slots = output.points[frame].cpu().numpy()
        slots = slots[np.argsort(-slots[..., 2].mean(axis=1), kind="stable")][:count]
        return [[(x, y) for x, y in column] for column in Resize((1, 1), size).points(slots[..., :2]).swapaxes(0, 1)]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the data for checking a resumed run and for the header of the weights file."""
        metrics = self.trainer.callback_metrics
        checkpoint[CHECKPOINT_KEY] = {
            "configuration": asdict(self.config),
            "seconds": round(self.seconds_before + time.monotonic() - self.started, 1),
            "validation": {key: float(value) for key, value in metrics.items() if key.startswith("val")},
        }

    def configure_optimizers(self) -> Any:
        """Optimizer and schedule of the configuration."""
        config = self.config
        encoder = [] if self.network.encoder is None else list(self.network.encoder.parameters())
        known = {id(p) for p in encoder}
        rest = [p for p in self.parameters() if id(p) not in known]
        groups = [
            {"params": encoder, "lr": config.learning_rate * config.encoder_rate},
            {"params": rest, "lr": config.learning_rate},
        ]
        on_cpu = self.device.type == "cpu"
        optimizer: torch.optim.Optimizer
        if config.optimizer == "adamw":
            # On GPUs, the default is as fast, and the fused kernel does not support clipping in mixed precision.
            optimizer = torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=True if on_cpu else None)
        else:
            optimizer = torch.optim.SGD(groups, lr=config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)

        def rate(step: int) -> float:
            warm = max(1, round(config.warmup * config.steps))
            if step < warm:
                return (step + 1) / warm
            if config.schedule == "constant":
                return 1.0
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, config.steps - warm)))) + 1e-3

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _both_views(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch of the first views and then the second views, which share their labels."""
    images = torch.cat((batch["image"], batch["second"]))
    rest = {key: torch.cat((value, value)) for key, value in batch.items() if key not in ("image", "second")}
    return {"image": images, **rest}


def _parts(losses: Losses) -> dict[str, Tensor]:
    named = {
        "segmentation": losses.segmentation,
        "localisation": losses.localisation,
        "side": losses.side,
        "consistency": losses.consistency,
        "association": losses.association,
    }
    return {name: part for name, part in named.items() if part is not None}


class NonFiniteLossError(RuntimeError):
    """The loss became NaN or infinite at ``step``."""

    def __init__(self, step: int) -> None:
        super().__init__(f"the loss is not finite at step {step}")
        self.step = step
