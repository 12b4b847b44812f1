//! `cargo xtask setup`: from a fresh machine to one where everything builds and the lab runs.

use crate::unpacked::{self, Programs, Unpacked};
use crate::{debian, project};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use ipmp_ebpf_recipe::{Compiler, LlvmVersion, Missing, Toolchain, linker, rustup_toolchains};
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Install what is missing: a compiler for eBPF, its linker, what the lab runs
///
/// Says what it will do, and asks before it does it when it runs on a terminal. Run again, it does nothing.
#[derive(Args, Default)]
pub struct Setup {
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
}

impl Setup {
    pub fn run(&self) -> Result<()> {
        let plan = Plan::make(&[debian::LAB, debian::TESTS].concat())?;
        if plan.is_empty() {
            println!("setup: nothing to do");
        } else {
            plan.apply(self)?;
        }
        if debian::is_debian() {
            self.unpack(&unpacked::SERVICES)?;
        }
        let toolchain = Toolchain::find()?;
        let Toolchain { compiler, linker } = &toolchain;
        println!("setup: Rust {} (LLVM {}) in {}", compiler.release, compiler.llvm, compiler.rustc.display());
        println!("setup: {}", linker.display());
        println!("setup: core for eBPF in {}", toolchain.sysroot()?.display());
        if !Path::new("/sys/kernel/btf/vmlinux").exists() {
            println!(
                "setup: this kernel has no BTF (/sys/kernel/btf/vmlinux): all builds, but ipmpd needs one with CONFIG_DEBUG_INFO_BTF"
            );
        }
        Ok(())
    }

    /// Does what a command needs before it can start; says nothing when there is nothing to do.
    pub fn ensure(&self, packages: &[&'static str]) -> Result<()> {
        let plan = Plan::make(packages)?;
        if plan.is_empty() { Ok(()) } else { plan.apply(self) }
    }

    /// Programs that are run from the cache; says what will be downloaded the first time.
    pub fn unpack(&self, programs: &Programs) -> Result<Unpacked> {
        if !programs.is_unpacked()? {
            println!("setup: {} will be downloaded into the cache, not installed", programs.packages());
            self.agree()?;
        }
        programs.unpack()
    }

    /// Asks on a terminal.
    pub fn agree(&self) -> Result<()> {
        if self.yes || !io::stdin().is_terminal() {
            return Ok(());
        }
        print!("Go ahead? [Y/n] ");
        io::stdout().flush().context("standard output")?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).context("standard input")?;
        let yes = matches!(answer.trim().to_lowercase().as_str(), "" | "y" | "yes") && !answer.is_empty();
        ensure!(yes, "nothing was changed");
        Ok(())
    }
}

/// What has to be done.
struct Plan {
    compiler: bool,
    packages: Vec<&'static str>,
    linker: bool,
    core: bool,
}

impl Plan {
    fn make(packages: &[&'static str]) -> Result<Self> {
        let mut plan = Self { compiler: false, packages: Vec::new(), linker: false, core: false };
        match Compiler::find() {
            Ok(compiler) => match linker::find(&compiler) {
                Ok(linker) => plan.core = !Toolchain { compiler, linker }.has_sysroot()?,
                Err(error @ Missing::Linker { named_by: Some(_), .. }) => bail!(error),
                Err(_) => {
                    plan.linker = true;
                    plan.core = true;
                }
            },
            Err(Missing::Compiler(tried)) => {
                plan.compiler = true;
                println!("setup: no Rust compiler with its library source: {}", tried.join("; "));
                plan.linker = true;
                plan.core = true;
            }
            Err(error) => bail!(error),
        }
        if debian::is_debian() {
            plan.packages = debian::missing(packages)?;
        }
        Ok(plan)
    }

    fn is_empty(&self) -> bool {
        !self.compiler && self.packages.is_empty() && !self.linker && !self.core
    }

    fn apply(mut self, setup: &Setup) -> Result<()> {
        println!("setup: this will be done:");
        if self.compiler && debian::is_debian() {
            println!(
                "  get a Rust compiler with its library source: apt-get install {} (as root),",
                debian::COMPILER.join(" ")
            );
            println!("    or, if these are older than {}, rustup component add rust-src", Compiler::LEAST);
        } else if self.compiler {
            println!("  rustup component add rust-src");
        }
        if !self.packages.is_empty() {
            println!("  apt-get install {} (as root)", self.packages.join(" "));
        }
        if self.linker {
            println!("  build bpf-linker {} into the cache (one or two minutes)", linker::VERSION);
        }
        if self.core {
            println!("  compile the core library for eBPF into the cache (half a minute)");
        }
        setup.agree()?;
        if debian::is_debian() && (self.compiler || !self.packages.is_empty()) {
            debian::update()?;
        }
        if self.compiler {
            if debian_has_compiler()? {
                self.packages.extend(debian::COMPILER);
            } else {
                rust_src()?;
            }
        }
        if !self.packages.is_empty() {
            debian::install(&self.packages)?;
        }
        let compiler = Compiler::find()?;
        if linker::find(&compiler).is_err() {
            install_linker(&compiler)?;
        }
        let toolchain = Toolchain::find()?;
        if !toolchain.has_sysroot()? {
            println!("setup: compiling the core library");
            toolchain.sysroot()?;
        }
        println!("setup: done");
        Ok(())
    }
}

/// Whether Debian has the compiler and its source, recent enough.
fn debian_has_compiler() -> Result<bool> {
    if !debian::is_debian() {
        return Ok(false);
    }
    for package in debian::COMPILER {
        if !debian::candidate(package)?.is_some_and(|version| Compiler::is_recent(&version)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The library source of the toolchain in use, from rustup.
fn rust_src() -> Result<()> {
    let mut rustup = std::process::Command::new("rustup");
    rustup.args(["component", "add", "rust-src"]);
    project::run(rustup).with_context(|| {
        let (debian, least) = (debian::COMPILER.join(" and "), Compiler::LEAST);
        format!(
            "the eBPF programs need Rust {least} or later with its library source: a rustup toolchain with rust-src, \
             or Debian's {debian} (from bookworm-security)"
        )
    })
}

/// Builds `bpf-linker` against the LLVM of the compiler.
fn install_linker(compiler: &Compiler) -> Result<()> {
    let root = linker::root(compiler.llvm)?;
    let prefix = match bundled_llvm(compiler.llvm) {
        Some(library) => borrow_llvm(&library, &root.join("llvm"))?,
        None => debian_llvm(compiler.llvm)?,
    };
    println!("setup: building bpf-linker {} with the LLVM in {}", linker::VERSION, prefix.display());
    let feature = format!("llvm-{}", compiler.llvm.major);
    let mut cargo =
        project::cargo(&["install", "bpf-linker", "--locked", "--force", "--no-default-features"]);
    cargo
        .args(["--version", linker::VERSION, "--features", &feature, "--root"])
        .arg(&root)
        .env("LLVM_PREFIX", prefix)
        // Nearly all of its time is spent in LLVM: without optimisation and symbols it is built in half the time.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        .env("PATH", with_path(&root.join("bin")))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR");
    project::run(cargo).context("bpf-linker could not be built: its sources come from crates.io")?;
    linker::find(compiler)?;
    Ok(())
}

/// PATH with one more directory: otherwise cargo recommends to add it, which is not needed.
fn with_path(directory: &Path) -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":");
    path.push(directory);
    path
}

/// The LLVM library in a rustup toolchain, if one has the compiler's version: then no LLVM package is needed.
fn bundled_llvm(llvm: LlvmVersion) -> Option<PathBuf> {
    let prefix = format!("libLLVM.so.{llvm}-rust-");
    rustup_toolchains().into_iter().find_map(|toolchain| {
        let files = fs::read_dir(toolchain.join("lib")).ok()?;
        files
            .flatten()
            .map(|file| file.path())
            .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
    })
}

/// Makes the installation prefix that bpf-linker's build looks for. The library is linked or copied, not pointed at: a later
/// `rustup update` would take it away.
fn borrow_llvm(library: &Path, prefix: &Path) -> Result<PathBuf> {
    let directory = prefix.join("lib");
    if prefix.exists() {
        fs::remove_dir_all(prefix).with_context(|| format!("{} cannot be removed", prefix.display()))?;
    }
    fs::create_dir_all(&directory).with_context(|| format!("{} cannot be made", directory.display()))?;
    let name = library.file_name().context("the LLVM library has no name")?;
    let own = directory.join(name);
    if fs::hard_link(library, &own).is_err() {
        fs::copy(library, &own).with_context(|| format!("{} cannot be copied", library.display()))?;
    }
    symlink(name, directory.join("libLLVM.so")).with_context(|| format!("{}", directory.display()))?;
    Ok(prefix.into())
}

/// Debian's LLVM of the compiler's version.
fn debian_llvm(llvm: LlvmVersion) -> Result<PathBuf> {
    let package = format!("llvm-{}-dev", llvm.major);
    ensure!(
        debian::is_debian(),
        "bpf-linker needs LLVM {llvm}, which no rustup toolchain here brings: install one with `rustup toolchain install stable`"
    );
    if !debian::missing(&[&package])?.is_empty() {
        println!("setup: no rustup toolchain brings LLVM {llvm}: installing {package} (as root)");
        debian::install(&[&package])?;
    }
    Ok(format!("/usr/lib/llvm-{}", llvm.major).into())
}
