/*
 * onednn_early.c - linked into tests when a sanitizer is on, so that oneDNN is
 * loaded at the start: LeakSanitizer crashes on the thread-local storage of
 * libraries that come by dlopen.
 */
#include <oneapi/dnnl/dnnl.h>

__attribute__((used)) static const dnnl_version_t *(*const early)(void) = dnnl_version;
