/* line_edit.h: messages typed at a terminal: editing, history, several lines. Keys as in readline:
 * arrows, Home, End, Delete, Ctrl-A B D E F H K L N P R U W, Alt-B and Alt-F; Alt-Enter begins
 * another line, and so does Enter after a backslash. Pasted text is one message, newlines and all.
 * Where stdin or stderr is no terminal, or TERM is dumb, lines are read as they come. */
#ifndef GQA_LINE_EDIT_H
#define GQA_LINE_EDIT_H

#include <stddef.h>

typedef struct line_editor line_editor;
line_editor *line_editor_new(void);  /* NULL: out of memory */
void line_editor_free(line_editor *e);

typedef enum line_status { LINE_TEXT, LINE_END, LINE_INTERRUPTED } line_status;
/* Shows the prompt on stderr (NULL: none), and reads a message into *text, valid until the next
 * call. LINE_INTERRUPTED after Ctrl-C, LINE_END at the end of input and when memory ran out. */
line_status line_read(line_editor *e, const char *prompt, char **text);

/* Columns that the first character of text[len] takes, and its bytes: as libc has it where LC_CTYPE
 * is UTF-8. Tabs are drawn as four blanks, others as visible_character has it. */
int character_width(const char *text, size_t len, size_t *n);

#endif
