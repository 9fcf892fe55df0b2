use std::path::PathBuf;

use crate::Failure;

pub fn print(_: &[PathBuf]) -> Result<(), Failure> {
    Err("not yet".into())
}
