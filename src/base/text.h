/* text.h - what several files ask of a name. Any thread; no state. */
#ifndef VAC_BASE_TEXT_H
#define VAC_BASE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

bool vac_ends_with(const char *text, const char *end);
/* FNV-1a, for tables of names: whoever chooses the names may make it useless. */
uint32_t vac_hash_text(const char *text);
/* A character (Unicode) that steers a terminal instead of being shown: C0, DEL, C1, ends of
 * lines and paragraphs, marks that turn the direction of writing. */
bool vac_steers_terminal(uint32_t code);

#endif
