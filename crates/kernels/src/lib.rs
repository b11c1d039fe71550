//! Matrix products, attention, norms and activations, portable and per ISA, chosen at run time.
