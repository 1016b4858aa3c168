"""Messages of a bag, and frames: images with the annotations of the same stamp."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from csl_tracker.bags.errors import DamagedBagError
from csl_tracker.bags.limits import MAX_WAITING_BYTES
from csl_tracker.bags.stamps import StampIndex
from csl_tracker.messages import topics
from csl_tracker.messages.cdr import header_stamp_ns

_LOOKAHEAD = 8
"""Images that may wait for an annotation later in the bag."""


@dataclass(frozen=True)
class RawMessage:
    """A serialised message.

    Attributes:
        topic: Topic.
        msgtype: Type, as in ``sensor_msgs/msg/Image``.
        time_ns: Time of reception by the recorder, ns.
        data: CDR.
    """

    topic: str
    msgtype: str
    time_ns: int
    data: bytes

    @property
    def stamp_ns(self) -> int:
        """The header's stamp, ns."""
        return header_stamp_ns(self.data)


@dataclass(frozen=True)
class BagFrame:
    """An image of a bag with the annotations of the same stamp.

    Attributes:
        stamp_ns: The image's stamp; if that is 0, its recording time.
        image: ``sensor_msgs/Image`` or ``CompressedImage``.
        truth_poses: ``InstrumentPoseArray``, or None.
        truth_segmentation: ``sensor_msgs/Image``, mono8, or None.
        camera_info: Last ``sensor_msgs/CameraInfo`` before the image, or None.
    """

    stamp_ns: int
    image: RawMessage
    truth_poses: RawMessage | None = None
    truth_segmentation: RawMessage | None = None
    camera_info: RawMessage | None = None


class FrameMatcher:
    """Matches images with annotations, which may precede their image or follow a few images later."""

    def __init__(self, image_topic: str, truth_topics: Iterable[str], info_topic: str) -> None:
        """Create an empty matcher.

        Args:
            image_topic: Topic of the images.
            truth_topics: Topics of the annotations.
            info_topic: Topic of the calibration.
        """
        self._image_topic, self._info_topic = image_topic, info_topic
        self._images: deque[tuple[RawMessage, RawMessage | None]] = deque()
        self._truth: dict[str, dict[int, RawMessage]] = {topic: {} for topic in truth_topics}
        self._camera_info: RawMessage | None = None
        self._last_ns = self._step_ns = 0

    def frames(self, messages: Iterator[RawMessage]) -> Iterator[BagFrame]:
        """Yield the images in message order.

        Raises:
            DamagedBagError: From ``messages``; raised after the last complete image.
        """
        damage: DamagedBagError | None = None
        while True:
            try:
                message = next(messages, None)
            except DamagedBagError as error:
                damage = error
                break
            if message is None:
                break
            self._add(message)
            while self._is_first_ready():
                yield self._pop_first()
        while self._images:
            yield self._pop_first()
        if damage is not None:
            raise damage

    def _add(self, message: RawMessage) -> None:
        if message.topic == self._image_topic:
            self._images.append((message, self._camera_info))
            step = abs(message.stamp_ns - self._last_ns) if self._last_ns else 0
            self._last_ns, self._step_ns = message.stamp_ns, min(self._step_ns or step, step or self._step_ns)
        elif message.topic == self._info_topic:
            self._camera_info = message
        else:
            kept = self._truth[message.topic]
            kept[message.stamp_ns] = message
            while len(kept) > 2 * _LOOKAHEAD or _total_bytes(kept.values()) > MAX_WAITING_BYTES:
                kept.pop(next(iter(kept)))  # annotations without an image in the bag

    def _is_first_ready(self) -> bool:
        """Whether the first image has all its annotations, or must not wait any longer."""
        if not self._images:
            return False
        if len(self._images) > _LOOKAHEAD or _total_bytes(image for image, _ in self._images) > MAX_WAITING_BYTES:
            return True
        stamp = self._images[0][0].stamp_ns
        return all(self._matching_stamp(topic, stamp) in found for topic, found in self._truth.items())

    def _pop_first(self) -> BagFrame:
        image, camera_info = self._images.popleft()
        stamp = image.stamp_ns
        parts = {topic: found.pop(self._matching_stamp(topic, stamp), None) for topic, found in self._truth.items()}
        return BagFrame(
            stamp or image.time_ns,
            image,
            parts.get(topics.TRUTH_POSES),
            parts.get(topics.TRUTH_SEGMENTATION),
            camera_info,
        )

    def _matching_stamp(self, topic: str, stamp: int) -> int:
        """The stamp of an image's annotation, which may be rounded (once the frame interval is known)."""
        found = self._truth[topic]
        return stamp if stamp in found else StampIndex(found, self._step_ns).match(stamp)


def _total_bytes(messages: Iterable[RawMessage]) -> int:
    return sum(len(message.data) for message in messages)
