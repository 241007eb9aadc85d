"""Speed and memory, measured side by side with a textbook pipeline and the bare libraries."""
