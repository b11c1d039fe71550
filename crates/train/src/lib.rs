//! Losses, optimizers, schedules, the training loop, tokenizer training.
