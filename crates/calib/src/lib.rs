//! Calibration: choosing text, and statistics of what flows through a model while it runs over it.
