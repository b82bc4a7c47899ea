//! Matrix products (naive until the packed kernels arrive).
