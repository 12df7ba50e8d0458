// A livepatch module as small as can be: one pointer that only a klp relocation can fill in.
#include <linux/module.h>
#include <linux/string.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("pkghook's test of livepatch relocations");
MODULE_INFO(livepatch, "Y");

extern char *pkghook_klp_target; /* renamed to .klp.sym.vmlinux.saved_command_line,0 */

static char **line __attribute__((used, section(".klpdata"))) = &pkghook_klp_target;

static int __init begin(void)
{
	return READ_ONCE(line) && strstr(*line, "initcall_debug") ? 0 : -EINVAL;
}

static void __exit end(void)
{
}

module_init(begin);
module_exit(end);
