"""A tracker node as a careful but ordinary developer writes it, to compare with: ``python -m benchmark.bench.plain_node``.

One callback does everything, from a queue of ten images: conversion as cv_bridge does it, resize and normalisation, the network
in eager torch, soft-max, the highest place of each heatmap, a label map at the image's size, poses and segmentation out. It
knows one instrument, no identities, no sub-pixel positions and no covariances. Weights and size are those of the tracker node.
"""

from __future__ import annotations

import time
from array import array
from typing import Any

import cv2
import numpy as np
import rclpy
import torch
from rclpy.node import Node
from sensor_msgs.msg import Image

from csl_tracker.weights import default_weights, load_weights
from csl_tracker_msgs.msg import InstrumentPose, InstrumentPoseArray, Landmark


class PlainNode(Node):
    """Image in, poses and segmentation out."""

    def __init__(self) -> None:
        super().__init__("tracker_node")
        path = self.declare_parameter("weights", "").value or default_weights()
        self.model = load_weights(path)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = self.model.network.eval().to(self.device)
        description = self.model.description.preprocessing
        self.mean = torch.tensor(description.mean, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(description.std, device=self.device).view(1, 3, 1, 1)
        self.poses = self.create_publisher(InstrumentPoseArray, "~/poses", 10)
        self.segmentation = self.create_publisher(Image, "~/segmentation", 10)
        self.create_subscription(Image, "image", self.callback, 10)

    def callback(self, message: Any) -> None:
        """Track one image."""
        start = time.perf_counter()
        image = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)[:, : 3 * message.width]
        image = image.reshape(message.height, message.width, 3)
        if message.encoding == "bgr8":
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        height, width = self.model.description.preprocessing.working_size(image.shape[:2])
        small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        with torch.no_grad():
            tensor = torch.from_numpy(small).to(self.device).permute(2, 0, 1)[None].float()
            output = self.network((tensor - self.mean) / self.std)
            heatmaps = output.heatmaps[0].cpu().numpy()
            labels = torch.softmax(output.scores[0], 0).argmax(0).byte().cpu().numpy()
        pose = InstrumentPose(header=message.header)
        for name, heatmap in zip(self.model.instruments.landmarks, heatmaps, strict=True):
            row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
            landmark = Landmark(name=name)
            landmark.x = float((column + 0.5) * image.shape[1] / heatmap.shape[1] - 0.5)
            landmark.y = float((row + 0.5) * image.shape[0] / heatmap.shape[0] - 0.5)
            landmark.confidence = float(np.clip(heatmap.max() / self.model.description.heatmap.peak, 0, 1))
            landmark.visible = bool(landmark.confidence > self.model.description.confidence_threshold)
            pose.landmarks.append(landmark)
        poses = InstrumentPoseArray(header=message.header, poses=[pose])
        elapsed = time.perf_counter() - start
        poses.processing_time.nanosec = int(elapsed * 1e9) % 1_000_000_000
        poses.processing_time.sec = int(elapsed)
        self.poses.publish(poses)
        full = cv2.resize(labels, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_NEAREST)
        out = Image(header=message.header, height=full.shape[0], width=full.shape[1], encoding="mono8", step=full.shape[1])
        out.data = array("B", full.tobytes())
        self.segmentation.publish(out)


def main() -> None:
    """Run until a signal comes."""
    rclpy.init()
    node = PlainNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
