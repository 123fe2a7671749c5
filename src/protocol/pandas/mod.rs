//! What a data frame is to pandas: arrays, columns, CSV, Parquet, dates and the words of Python.

pub(crate) mod array;
pub(crate) mod csv;
pub(crate) mod datetime;
pub(crate) mod digits;
pub(crate) mod frame;
pub(crate) mod parquet;
pub(crate) mod python;
