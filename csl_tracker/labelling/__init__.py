"""From a video to the frames that are worth labelling, and on to the labelling tools."""
