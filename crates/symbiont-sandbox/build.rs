//! Builds the guest, a static program that the library carries inside itself.
//!
//! It is a build of its own, with its own target directory and its own flags: what the outer
//! build was asked for (a sanitizer, a wrapper, another profile) does not apply inside a sandbox.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(variable("OUT_DIR"));
    let guest = manifest.join("../symbiont-guest");
    for input in ["src", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", guest.join(input).display());
    }
    for input in ["Cargo.lock", "Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", manifest.join("../..").join(input).display());
    }
    println!("cargo:rerun-if-changed=build.rs");

    let target = static_target(&variable("TARGET"), &variable("RUSTC"));
    let built = out.join("guest");
    let mut cargo = Command::new(variable("CARGO"));
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_the_outer_build) {
            cargo.env_remove(name);
        }
    }
    cargo
        .args(["build", "--release", "--bin", "symbiont-guest", "--target", &target])
        .arg("--manifest-path")
        .arg(guest.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&built)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static\x1f-Crelocation-model=static")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "2")
        .env("CARGO_PROFILE_RELEASE_LTO", "fat")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "none")
        .env("CARGO_PROFILE_RELEASE_INCREMENTAL", "false");
    let status = cargo.status().unwrap_or_else(|error| panic!("cargo could not be run: {error}"));
    let musl = target.replace("-gnu", "-musl");
    assert!(
        status.success(),
        "the guest, a static program, could not be built for {target}: {status}. Where the C library \
         has no static part, `rustup target add {musl}` helps; with another toolchain than rustup's, \
         install its standard library for {musl}, or the C library's static part (glibc-static, \
         libc6-dev)"
    );

    let program = built.join(&target).join("release/symbiont-guest");
    println!("cargo:rustc-env=SYMBIONT_GUEST={}", program.display());
}

/// Whether a variable speaks of the build that runs this script. Where packages come from is the
/// same for both, and so is what links a target's programs.
fn is_of_the_outer_build(name: &str) -> bool {
    const SHARED: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_SOURCE_",
    ];
    const OTHERS: [&str; 9] = [
        "LLVM_PROFILE_FILE",
        "MAKEFLAGS",
        "MFLAGS",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTDOCFLAGS",
        "RUSTFLAGS",
        "TARGET",
        "HOST",
    ];
    let linker = name.starts_with("CARGO_TARGET_") && name.ends_with("_LINKER");
    let shared = linker || SHARED.iter().any(|s| name.starts_with(s));
    let of_cargo = name.starts_with("CARGO_") && !shared;
    of_cargo || OTHERS.contains(&name) || name.starts_with("CLIPPY_")
}

/// The musl target where its standard library is installed, as it makes the smaller program.
fn static_target(target: &str, rustc: &str) -> String {
    let musl = target.replace("-gnu", "-musl");
    let libraries =
        Command::new(rustc).args(["--print", "target-libdir", "--target", &musl]).output();
    match libraries {
        Ok(output) if output.status.success() => {
            let path = String::from_utf8_lossy(&output.stdout);
            if Path::new(path.trim()).is_dir() { musl } else { target.to_owned() }
        }
        Ok(_) | Err(_) => target.to_owned(),
    }
}
