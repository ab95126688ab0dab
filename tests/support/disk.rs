//! A disk that can be full. It needs the right to mount one.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A disk in memory that only those see who are started through it.
#[derive(Debug)]
pub struct Disk {
    holder: Child,
    /// Where it is for them.
    pub at: PathBuf,
}

impl Disk {
    /// A disk of so many bytes, as `mount` reads them. None where it cannot be mounted.
    pub fn new(size: &str) -> Option<Self> {
        let at =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}", std::process::id()));
        fs::create_dir_all(&at).expect("a folder");
        let script = format!(
            "mount -t tmpfs -o size={size} tmpfs '{}' && echo there && read _",
            at.display()
        );
        let holder = Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut holder = holder.ok()?;
        let mut said = String::new();
        let output = holder.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut said).expect("a pipe");
        let disk = Self { holder, at };
        if said.is_empty() {
            eprintln!("SKIPPED: it cannot mount a disk");
            return None;
        }
        Some(disk)
    }

    /// What starts a program that sees it.
    pub fn program(&self, program: &Path) -> PathBuf {
        let path = self.at.with_extension("program");
        let script = format!(
            "#!/bin/sh\nexec nsenter -t {} -m -- '{}' \"$@\"\n",
            self.holder.id(),
            program.display()
        );
        fs::write(&path, script).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
        path
    }

    fn filler(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.at.strip_prefix("/").expect("it begins there")).join("filler")
    }

    /// Takes all the space that it has now.
    pub fn fill(&self) {
        let file = fs::OpenOptions::new().create(true).append(true).open(self.filler());
        let mut file = file.expect("a file");
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    /// Gives back what was taken.
    pub fn free(&self) {
        fs::remove_file(self.filler()).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        let _ = fs::remove_dir_all(&self.at);
        let _ = fs::remove_file(self.at.with_extension("program"));
    }
}
