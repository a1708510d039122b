"""Runs a statically linked Linux program on an emulated processor that has AVX-512.

The processor is that of Bochs (PyPI `bochscpu-python`); this file is the Linux around it: it loads
the program and answers its system calls, as far as a test program that runs in one thread makes
them. `EMULATOR_TRACE=1` prints the calls.

usage: run.py PROCESSOR.SO PROGRAM [ARGUMENTS]
"""

import ctypes
import mmap
import os
import struct
import sys
import time

ctypes.CDLL(os.path.abspath(sys.argv[1]), ctypes.RTLD_GLOBAL)

import bochscpu  # noqa: E402 (resolves symbols in the library above)
from bochscpu import memory  # noqa: E402

PAGE = 4096
LARGE_PAGE = 2 << 20
# Memory of the program. Virtual addresses are physical ones: a large page each, all writable.
SIZE = 512 << 20
TABLES = SIZE - LARGE_PAGE
STACK_TOP = TABLES - PAGE
STACK_SIZE = 16 << 20
HEAP_SIZE = 32 << 20
# Where a position-independent program is placed.
LOAD_ADDRESS = 4 << 20

CPUINFO = b"flags\t\t: sse2 avx fma avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_bf16\n"
TRACE = "EMULATOR_TRACE" in os.environ
EAGAIN, ENOENT, ENOMEM, EINVAL, ENOSYS = 11, 2, 12, 22, 38
MAP_FIXED, MAP_ANONYMOUS = 0x10, 0x20
ARCH_SET_FS = 0x1002

ram = mmap.mmap(-1, SIZE)


def put(address: int, data: bytes) -> None:
    ram[address : address + len(data)] = data


def round_up(length: int, unit: int = PAGE) -> int:
    return (length + unit - 1) // unit * unit


def load(path: str) -> tuple[int, tuple[int, int, int], int]:
    """Copies the program into memory. Returns its entry point, its program headers (address, size
    of one, count) and the end of its data."""
    image = open(path, "rb").read()
    if image[:4] != b"\x7fELF":
        sys.exit(f"{path} is no ELF program")
    (kind,) = struct.unpack_from("<H", image, 16)
    entry, headers = struct.unpack_from("<QQ", image, 24)
    header_size, count = struct.unpack_from("<HH", image, 54)
    base = LOAD_ADDRESS if kind == 3 else 0
    end = headers_address = 0
    for index in range(count):
        kind, _, offset, address, _, file_size, memory_size, _ = struct.unpack_from(
            "<IIQQQQQQ", image, headers + index * header_size
        )
        if kind == 3:
            sys.exit(f"{path} is linked dynamically; build it with -C target-feature=+crt-static")
        if kind == 1:
            put(base + address, image[offset : offset + file_size])
            end = max(end, base + address + memory_size)
            if offset <= headers < offset + file_size:
                headers_address = base + address + headers - offset
    return base + entry, (headers_address, header_size, count), round_up(end)


def fill_stack(
    path: str,
    arguments: list[str],
    environment: list[str],
    entry: int,
    headers: tuple[int, int, int],
) -> int:
    """Lays out arguments, environment and auxiliary vector; returns the stack pointer."""
    top = STACK_TOP

    def push(data: bytes) -> int:
        nonlocal top
        top -= len(data)
        put(top, data)
        return top

    argv = [push(text.encode() + b"\0") for text in [path, *arguments]]
    envp = [push(text.encode() + b"\0") for text in environment]
    random = push(os.urandom(16))
    auxiliary = [(3, headers[0]), (4, headers[1]), (5, headers[2]), (6, PAGE), (9, entry)]
    auxiliary += [(11, 0), (12, 0), (13, 0), (14, 0), (17, 100), (23, 0), (25, random), (0, 0)]
    words = [len(argv), *argv, 0, *envp, 0, *(word for pair in auxiliary for word in pair)]
    top = (top - 8 * len(words)) & ~15
    put(top, struct.pack(f"<{len(words)}Q", *words))
    return top


class Linux:
    """The system calls, by their numbers on x86-64. A negative result is an error's number."""

    def __init__(self, data_end: int) -> None:
        self.heap_start = self.heap_end = data_end
        self.next_mapping = round_up(data_end + HEAP_SIZE)
        self.unmapped = []
        self.exit_code = None

    def text(self, address: int) -> str:
        return ram[address : ram.find(b"\0", address)].decode()

    def map(self, address: int, length: int, flags: int, file: int, offset: int) -> int:
        length = round_up(length)
        if not flags & MAP_FIXED:
            hole = next((hole for hole in self.unmapped if hole[1] >= length), None)
            if hole:
                self.unmapped.remove(hole)
                if hole[1] > length:
                    self.unmapped.append((hole[0] + length, hole[1] - length))
                address = hole[0]
            else:
                address = self.next_mapping
                if address + length > STACK_TOP - STACK_SIZE:
                    return -ENOMEM
                self.next_mapping += length
        data = b"" if flags & MAP_ANONYMOUS else os.pread(file, length, offset)
        put(address, data.ljust(length, b"\0"))
        return address

    def open(self, path: str, flags: int) -> int:
        if path == "/proc/cpuinfo":
            file = os.memfd_create("cpuinfo")
            os.write(file, CPUINFO)
            os.lseek(file, 0, os.SEEK_SET)
            return file
        if path.startswith(("/proc/", "/sys/")):
            return -ENOENT
        return os.open(path, flags, 0o644)

    def exit(self, code: int) -> int:
        self.exit_code = code & 0xFF
        return 0

    def call(self, number: int, a: int, b: int, c: int, d: int, e: int, f: int) -> int:
        match number:
            case 0 | 17:  # read, pread64
                data = os.read(a, c) if number == 0 else os.pread(a, c, d)
                put(b, data)
                return len(data)
            case 1:  # write
                return os.write(a, ram[b : b + c])
            case 20:  # writev
                parts = (struct.unpack_from("<QQ", ram, b + 16 * part) for part in range(c))
                return sum(os.write(a, ram[start : start + length]) for start, length in parts)
            case 2:  # open
                return self.open(self.text(a), b)
            case 257:  # openat
                return self.open(self.text(b), c)
            case 3:  # close
                os.close(a)
                return 0
            case 8:  # lseek
                return os.lseek(a, ctypes.c_int64(b).value, c)
            case 9:  # mmap
                return self.map(a, b, d, e, f)
            case 11:  # munmap
                self.unmapped.append((a, round_up(b)))
                return 0
            case 12:  # brk
                if self.heap_start <= a <= self.heap_start + HEAP_SIZE:
                    self.heap_end = a
                return self.heap_end
            case 60 | 231:  # exit, exit_group
                return self.exit(a)
            case 62 | 200:  # kill, tkill: the program's own abort
                return self.exit(128 + b)
            case 234:  # tgkill
                return self.exit(128 + c)
            case 56 | 435:  # clone, clone3: the test harness then runs its tests in this thread
                return -EAGAIN
            case 39 | 186 | 218:  # getpid, gettid, set_tid_address
                return 1000
            # poll, mprotect, signals, sched_yield, madvise, sigaltstack, futex, robust list
            case 7 | 10 | 13 | 14 | 24 | 28 | 131 | 202 | 273:
                return 0
            case 79:  # getcwd
                path = os.getcwd().encode() + b"\0"
                put(a, path)
                return len(path)
            case 204:  # sched_getaffinity: one processor
                put(c, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
                return 8
            case 228:  # clock_gettime
                put(b, struct.pack("<QQ", *divmod(time.clock_gettime_ns(a), 10**9)))
                return 0
            case 302:  # prlimit64
                if d:
                    put(d, struct.pack("<QQ", STACK_SIZE, STACK_SIZE))
                return 0
            case 318:  # getrandom
                put(a, os.urandom(b))
                return b
        return -ENOSYS


def segment(selector: int, attributes: int) -> bochscpu.Segment:
    s = bochscpu.Segment()
    s.present, s.selector, s.base, s.limit, s.attr = True, selector, 0, 0xFFFF_FFFF, attributes
    return s


def main(path: str, arguments: list[str]) -> None:
    entry, headers, data_end = load(path)
    environment = [f"{k}={v}" for k, v in os.environ.items() if k.startswith(("RUST_", "WDSR_"))]
    stack = fill_stack(path, arguments, environment, entry, headers)
    linux = Linux(data_end)

    session = bochscpu.Session()

    def missing_page(address: int) -> None:
        sys.exit(f"the program reached for address {address:#x}, beyond its {SIZE >> 20} MiB")

    session.missing_page_handler = missing_page
    start = ctypes.addressof(ctypes.c_char.from_buffer(ram))
    for address in range(0, SIZE, PAGE):
        memory.page_insert(address, start + address)
    level4, level3, level2, code = (TABLES + index * PAGE for index in range(4))
    put(level4, struct.pack("<Q", level3 | 7))
    put(level3, struct.pack("<Q", level2 | 7))
    for index in range(SIZE // LARGE_PAGE):
        put(level2 + 8 * index, struct.pack("<Q", index * LARGE_PAGE | 0x87))

    # The code of the kernel: SYSCALL comes to SYSRET, and a hook serves the call in between.
    # `enter` turns on SSE, AVX and AVX-512, and goes to the program.
    sysret = bytes.fromhex("480f07")
    enter = bytes.fromhex(
        "0f22e0"  # mov cr4, rax
        "31c9 31d2 b8e7000000 0f01d1"  # xcr0 = 0xe7: x87, SSE, AVX, AVX-512
        "4889d9"  # mov rcx, rbx: the entry point
        "31c0 31db 31d2"  # eax = ebx = edx = 0
    )
    put(code, sysret)
    put(code + 64, enter + sysret)

    state = bochscpu.State()
    state.cr0, state.cr3, state.cr4 = 0x8001_0033, level4, 0x20
    state.efer = 0xD01
    state.star = 0x1B << 48 | 0x8 << 32
    state.lstar = code
    state.mxcsr, state.mxcsr_mask = 0x1F80, 0xFFFF
    state.fpcw, state.fptw = 0x37F, 0xFFFF
    state.xcr0 = 1
    state.rflags, state.r11 = 0x2, 0x202
    state.rip, state.rsp = code + 64, stack
    # CR4: PAE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE.
    state.rax, state.rbx = 0x50620, entry
    state.cs = segment(0x8, 0xA09B)
    for name in ("ss", "ds", "es", "fs", "gs"):
        setattr(state, name, segment(0x10, 0xC093))
    session.cpu.state = state

    def far_branch(session: bochscpu.Session, _: int, what: int, *_places: int) -> None:
        if what != int(bochscpu.InstructionType.IS_SYSCALL.value):
            return
        cpu = session.cpu
        number, operands = cpu.rax, (cpu.rdi, cpu.rsi, cpu.rdx, cpu.r10, cpu.r8, cpu.r9)
        if number == 158:  # arch_prctl
            if operands[0] == ARCH_SET_FS:
                fs = cpu.fs
                fs.base = operands[1]
                cpu.fs = fs
                result = 0
            else:
                result = -EINVAL
        else:
            try:
                result = linux.call(number, *operands)
            except OSError as error:
                result = -error.errno
        if TRACE:
            print(f"[call {number}{tuple(map(hex, operands))} = {result}]", file=sys.stderr)
        cpu.rax = result & (1 << 64) - 1
        if linux.exit_code is not None:
            session.stop()

    def exception(session: bochscpu.Session, _: int, vector: int, error: int) -> None:
        cpu = session.cpu
        print(
            f"{path}: exception {vector} ({error:#x}) at {cpu.rip:#x}, cr2 {cpu.cr2:#x}",
            file=sys.stderr,
        )
        linux.exit(98)
        session.stop()

    hook = bochscpu.Hook()
    hook.far_branch = far_branch
    hook.exception = exception
    session.run([hook])
    sys.stderr.flush()
    # The module cannot be unloaded in an orderly way.
    os._exit(97 if linux.exit_code is None else linux.exit_code)


main(sys.argv[2], sys.argv[3:])
