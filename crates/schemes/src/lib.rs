//! Threshold mathematics: the RFC 9497 PRF and COCKTAIL-DKG. Pure.
