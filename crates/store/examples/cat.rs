//! Copies the file at an address to standard output, or lists what is below it:
//!
//! ```sh
//! cargo run --release -p smolt-store --example cat -- s3://bucket/key > file
//! cargo run --release -p smolt-store --example cat -- --list 'hf://datasets/owner/name/data/*.parquet'
//! ```

use std::io::{self, Write};
use std::process::ExitCode;

use smolt_store::{Address, Error, Store};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--list", address] => list(address),
        [address] => cat(address),
        _ => Err(io::Error::other("cat [--list] ADDRESS")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn cat(address: &str) -> io::Result<()> {
    let mut file = Store::of_process().open(&address.parse::<Address>().map_err(io::Error::from)?)?;
    io::copy(&mut file, &mut io::stdout().lock()).map(drop)
}

fn list(address: &str) -> io::Result<()> {
    let address = address.parse::<Address>().map_err(|error: Error| io::Error::from(error))?;
    let mut out = io::stdout().lock();
    Store::of_process()
        .list(&address)?
        .iter()
        .try_for_each(|entry| writeln!(out, "{} {}", entry.size, entry.address))
}
