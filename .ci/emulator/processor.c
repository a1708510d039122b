// Loaded before the emulator's Python module, whose undefined symbols it takes part in resolving.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// The module is built against glibc 2.38; these let it load on older ones.
unsigned long long __isoc23_strtoull(const char *text, char **end, int base) {
    return strtoull(text, end, base);
}

int __isoc23_sscanf(const char *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int count = vsscanf(text, format, arguments);
    va_end(arguments);
    return count;
}

// The module chooses Cannon Lake, which has no BF16. This makes it Sapphire Rapids: AVX-512 F, CD,
// BW, DQ, VL, VNNI, BF16, FP16.
void *_Z23create_corei3_cnl_cpuidP8BX_CPU_C(void *cpu) {
    Dl_info caller;
    dladdr(__builtin_return_address(0), &caller);
    void *module = dlopen(caller.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    void *(*create)(void *) = dlsym(module, "_Z28create_sapphire_rapids_cpuidP8BX_CPU_C");
    return create(cpu);
}
