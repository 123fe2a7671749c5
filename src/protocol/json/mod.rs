//! JSON as the protocols need it: numbers go straight from text into typed buffers and from buffers into text.
//!
//! Reads Python's dialect (`NaN`, `Infinity`, `1e400`, integers of any size), since that is what MLflow's clients
//! send; see `docs/adr`.

mod effort;
mod elements;
mod numbers;
mod reader;
mod value;
mod writer;

pub(crate) use effort::effort;
pub(crate) use elements::{ElementError, tensor_of};
pub(crate) use reader::{JsonError, NoObject, Reader, Table};
pub(crate) use value::{Cells, Columns, Flat, Items, Json};
pub use writer::NonFinite;
pub(crate) use writer::{
    Layout, python_float, separate, write_element, write_integer, write_integers, write_key,
    write_map, write_sequence, write_str, write_tensor,
};
