//! Proofs that two pairs of points have one discrete logarithm.
