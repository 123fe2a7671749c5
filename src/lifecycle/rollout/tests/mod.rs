mod fleet;
mod machine;
