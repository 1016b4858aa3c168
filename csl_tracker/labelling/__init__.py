"""Select frames of a video for labelling, and export them to labelling tools."""
