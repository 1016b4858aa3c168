"""ROS messages without ROS: topics, types, serialised messages, and conversions of images, results and ground truth."""
