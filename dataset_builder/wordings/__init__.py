"""The wordings: named texts that ask a language model for captions. `dataset_builder.instructions` is the way in."""
