//! Missing, infinite and very large numbers, answered as ONNX answers them.
//!
//! tract trades them for speed: its kernels take `max(0, NaN)` for 0 and end a sigmoid at ±18, and the rules that make a
//! graph faster hold for plain numbers only (`0 · x` is 0). So each plan has a twin in which operators of our own stand in
//! place of those that do so, hidden from tract's rewriting. The fast plan runs under a [`watch`]; the twin answers once a
//! number is met that is not plain.

mod compute;
mod log_sum_exp;
mod operators;
mod quirks;
mod register;
mod rules;
pub(super) mod watch;

pub(super) use self::log_sum_exp::shift_log_sums;
pub(super) use self::quirks::{Quirk, check};
pub(super) use self::register::register;
pub(super) use self::rules::{make_exact, make_right};
