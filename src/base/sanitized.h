/*
 * sanitized.h - whether this is a build with a sanitizer, which wants system calls of its
 * own, and a process to end the long way.
 */
#ifndef VAC_BASE_SANITIZED_H
#define VAC_BASE_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VAC_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define VAC_SANITIZED 1
#endif
#endif
#ifndef VAC_SANITIZED
#define VAC_SANITIZED 0
#endif

#endif
