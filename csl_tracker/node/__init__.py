"""The ROS layer: converts messages to arrays and results to messages. No other package imports rclpy."""
