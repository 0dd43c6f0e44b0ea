"""What users hold: tensors, the tape, creation, and `bind`, the fork between eager and traced."""
