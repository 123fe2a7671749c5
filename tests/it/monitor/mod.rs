//! Models under watch: what is counted, and what is said of it.

mod command;
mod real_data;
mod served;
