//! Finds the test files: they are part of the source of crate `datafusion-sqllogictest`.

use std::env;
use std::error::Error;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    // Other platforms need packages that were perhaps never fetched.
    let output = Command::new(env::var("CARGO")?)
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", &env::var("TARGET")?])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let manifest = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|package| package["name"] == "datafusion-sqllogictest")
        .and_then(|package| package["manifest_path"].as_str())
        .ok_or("cargo metadata knows no package datafusion-sqllogictest")?;
    let folder = Path::new(manifest)
        .parent()
        .ok_or("the manifest is in no folder")?;
    println!("cargo::rustc-env=SQLLOGICTEST_FOLDER={}", folder.display());
    Ok(())
}
