//! The program of a container that gets no network: it says why and exits with 125, as Docker does for what it could not
//! start.
//!
//! It must run in any image, also one without a shell or a libc, under any user. So it is an ELF file of one segment, with
//! two system calls and the text behind them:
//!
//! ```text
//!   ELF header (64) │ program header (56) │ write(2, text, length); exit_group(125) │ text
//! ```
//!
//! Sources: System V ABI, chapter 4 (ELF-64); `syscall(2)` for numbers and registers.

/// What Docker exits with when it could not run a container.
const EXIT_CODE: u8 = 125;
/// The longest text, octets: what fits into one instruction of aarch64.
const TEXT_MAX_BYTES: usize = 4_096;

const ELF_HEADER_BYTES: u16 = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;
/// Where the file lies in memory.
const BASE: u64 = 0x40_0000;
const CODE_AT: u64 = ELF_HEADER_BYTES as u64 + PROGRAM_HEADER_BYTES as u64;

/// The program that says `text`, for the machine that this runs on.
pub(crate) fn program(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(TEXT_MAX_BYTES)];
    let length = text.len() as u16;
    let (machine, code) = if cfg!(target_arch = "aarch64") { (183, aarch64(length)) } else { (62, x86_64(length)) };
    let size = CODE_AT + (code.len() + text.len()) as u64;
    [elf_header(machine), program_header(size), code, text.to_vec()].concat()
}

fn elf_header(machine: u16) -> Vec<u8> {
    const MAGIC_64_LITTLE: [u8; 16] = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const EXECUTABLE: u16 = 2;
    let mut header = MAGIC_64_LITTLE.to_vec();
    for half in [EXECUTABLE, machine] {
        header.extend(half.to_le_bytes());
    }
    header.extend(1_u32.to_le_bytes());
    for word in [BASE + CODE_AT, u64::from(ELF_HEADER_BYTES), 0] {
        header.extend(word.to_le_bytes());
    }
    header.extend(0_u32.to_le_bytes());
    for half in [ELF_HEADER_BYTES, PROGRAM_HEADER_BYTES, 1, 0, 0, 0] {
        header.extend(half.to_le_bytes());
    }
    header
}

fn program_header(size: u64) -> Vec<u8> {
    const LOAD: u32 = 1;
    const READ_AND_EXECUTE: u32 = 5;
    let mut header = [LOAD, READ_AND_EXECUTE].map(u32::to_le_bytes).concat();
    for word in [0, BASE, BASE, size, size, 0x1000] {
        header.extend(u64::to_le_bytes(word));
    }
    header
}

fn x86_64(length: u16) -> Vec<u8> {
    let [low, high] = length.to_le_bytes();
    let instructions: [&[u8]; 8] = [
        &[0xbf, 2, 0, 0, 0],              // mov edi, 2: standard error
        &[0x48, 0x8d, 0x35, 24, 0, 0, 0], // lea rsi, [rip + 24]: the text, behind the code
        &[0xba, low, high, 0, 0],         // mov edx, length
        &[0xb8, 1, 0, 0, 0],              // mov eax, write
        &[0x0f, 0x05],                    // syscall
        &[0xbf, EXIT_CODE, 0, 0, 0],      // mov edi, 125
        &[0xb8, 231, 0, 0, 0],            // mov eax, exit_group
        &[0x0f, 0x05],                    // syscall
    ];
    instructions.concat()
}

fn aarch64(length: u16) -> Vec<u8> {
    let instructions: [u32; 8] = [
        0xd280_0040,                             // mov x0, 2: standard error
        0x1000_00e1,                             // adr x1, . + 28: the text, behind the code
        0xd280_0002 | u32::from(length) << 5,    // mov x2, length
        0xd280_0808,                             // mov x8, write (64)
        0xd400_0001,                             // svc 0
        0xd280_0000 | u32::from(EXIT_CODE) << 5, // mov x0, 125
        0xd280_0bc8,                             // mov x8, exit_group (94)
        0xd400_0001,                             // svc 0
    ];
    instructions.map(u32::to_le_bytes).concat()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_program_says_its_text_and_exits_with_125() {
        let path = std::env::temp_dir().join(format!("weave-rs-excuse-{}", std::process::id()));
        let text = "weave-rs: no address is left in 10.32.0.0/28\n";
        let mut file =
            std::fs::File::options().create(true).write(true).truncate(true).mode(0o755).open(&path).unwrap();
        file.write_all(&program(text)).unwrap();
        drop(file);

        // Another test may fork while the file is open for writing.
        let mut output = Command::new(&path).output();
        while output.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ExecutableFileBusy) {
            output = Command::new(&path).output();
        }
        let output = output.unwrap();
        std::fs::remove_file(&path).unwrap();

        assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(125), text.to_owned()));
    }

    #[test]
    fn the_code_ends_where_the_text_begins() {
        assert_eq!(x86_64(1).len(), 12 + 24);
        assert_eq!(aarch64(1).len(), 4 + 28);
        assert_eq!(program(&"x".repeat(10_000)).len() as u64, CODE_AT + 36 + TEXT_MAX_BYTES as u64);
    }
}
