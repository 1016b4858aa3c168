"""The wire, below bags and node: topics, types, serialised messages, images, results to messages and back. No ROS."""
