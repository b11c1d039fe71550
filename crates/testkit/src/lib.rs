//! Dev-only: tiny models, a golden loader, comparisons.
