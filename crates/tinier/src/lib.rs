//! Makes trained models smaller and proves what was lost.
