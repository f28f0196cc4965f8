//! Binary operators between vectors and scalars, matched vectors, and sets.

mod elements;
mod general;
mod matching;
mod scalar;
mod set;
mod streaming;

pub(crate) use matching::join;
pub(crate) use scalar::vector_scalar;
pub(crate) use set::set_op;
