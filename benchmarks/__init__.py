"""What is fast, against what, measured on this machine."""
