/*
 * test_proc.c - what is read out of /proc of other people's processes: the parsers on
 * text as kernels write it, and whole processes in a directory that stands for /proc.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "hold/look.h"
#include "temp_dir.h"

#define MIB ((uint64_t)1 << 20)

static void test_status(void **state)
{
	static const char text[] = "Name:\tpython3\nUmask:\t0022\nState:\tS (sleeping)\n"
				   "Tgid:\t4711\nPid:\t4711\nUid:\t1000\t1001\t1002\t1003\n"
				   "NSpid:\t4711\t17\t3\nVmLck:\t      16 kB\nVmPin:\t     32 kB\n"
				   "Threads:\t12\n";
	struct vac_proc_status status;

	(void)state;
	assert_true(vac_proc_parse_status(text, strlen(text), &status));
	assert_true(status.uid_valid && status.threads_valid);
	assert_int_equal(status.uid, 1001);
	assert_int_equal(status.threads, 12);
	assert_int_equal(status.pid_count, 3);
	assert_int_equal(status.pids[0], 4711);
	assert_int_equal(status.pids[1], 17);
	assert_int_equal(status.pids[2], 3);
	assert_int_equal(status.locked_bytes, 16384);
	assert_int_equal(status.pinned_bytes, 32768);
}

/* Lines that are cut, too long or of no number say nothing. */
static void test_broken_status(void **state)
{
	static const char *const texts[] = {
		"",
		"Uid:",
		"Uid:\t1000",
		"Uid:\t1\t99999999999999999999999",
		"NSpid:\t-4",
		"NSpid:\t99999999999",
		"Threads:\t\nUid\n",
		"xUid:\t1\t2\n",
	};
	struct vac_proc_status status;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		assert_false(vac_proc_parse_status(texts[i], strlen(texts[i]), &status));
		assert_false(status.uid_valid || status.threads_valid);
		assert_int_equal(status.pid_count, 0);
	}
	/* More namespaces than there is room for: the outermost. */
	assert_true(vac_proc_parse_status("NSpid: 1 2 3 4 5 6 7 8 9 10", 27, &status));
	assert_int_equal(status.pid_count, VAC_PROC_NAMESPACES);
	assert_int_equal(status.pids[7], 8);
}

#define STAT_TAIL " S 1 4711 4711 0 -1 4194304 1 2 3 4 100 23 7 8 20 0 12 0 987654 1 2 3"

static void test_stat(void **state)
{
	static const char *const names[] = {"4711 (python3)", "4711 (a) R 9 9 (b)",
					    "4711 (with blank)", "4711 ())"};
	char text[256];
	struct vac_proc_stat stat;

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		int n = snprintf(text, sizeof(text), "%s%s", names[i], STAT_TAIL);

		assert_true(vac_proc_parse_stat(text, (size_t)n, &stat));
		assert_int_equal(stat.state, 'S');
		assert_int_equal(stat.parent, 1);
		assert_int_equal(stat.cpu_ticks, 123);
		assert_int_equal(stat.start_ticks, 987654);
	}
	/* Cut anywhere before the start it says nothing. */
	for (size_t n = 0; n <= strlen(names[0]) + strlen(STAT_TAIL) - strlen(" 1 2 3"); n++) {
		snprintf(text, sizeof(text), "%s%s", names[0], STAT_TAIL);
		assert_false(vac_proc_parse_stat(text, n, &stat));
	}
}

struct name {
	const char *words[8];
	const char *name;
};

static void test_names(void **state)
{
	static const struct name names[] = {
		{{"python3", "train.py", "--epochs", "3"}, "train.py"},
		{{"/usr/bin/python3.11", "-u", "/data/models/train.py"}, "train.py"},
		{{"python", "-W", "ignore", "-X", "dev", "serve.py"}, "serve.py"},
		{{"python", "-Wignore", "-BOO", "serve.py"}, "serve.py"},
		{{"python", "--check-hash-based-pycs", "never", "serve.py"}, "serve.py"},
		{{"python3", "-m", "ipykernel_launcher", "-f", "/run/kernel-1.json"},
		 "ipykernel (notebook)"},
		{{"/opt/conda/bin/python", "-m", "ipykernel", "-f", "x"}, "ipykernel (notebook)"},
		{{"python3", "-Xfrozen_modules=off", "-m", "ipykernel_launcher"},
		 "ipykernel (notebook)"},
		{{"python3", "-um", "torch.distributed.run", "train.py"}, "torch.distributed.run"},
		{{"python3", "-mhttp.server"}, "http.server"},
		{{"python3", "-c", "import torch"}, "python -c"},
		{{"python3", "-c", "from multiprocessing.spawn import spawn_main; spawn_main()"},
		 "python (multiprocessing)"},
		{{"python3"}, "python"},
		{{"python3", "-"}, "python"},
		{{"python3", "-c"}, "python -c"},
		{{"python3", "-m"}, "python -m"},
		{{"python3", "-W"}, "python"},
		{{"python-wrapper", "x.py"}, "python-wrapper"},
		{{"/usr/lib/vacate/vacate-worker", "--device", "cuda:0"}, "vacate-worker"},
		{{"ray::train"}, "ray::train"},
		{{"VLLM::EngineCore"}, "VLLM::EngineCore"},
		{{"nvidia-smi dmon /x"}, "nvidia-smi dmon /x"},
		{{"/usr/sbin/sshd -D [listener] 0/1"}, "sshd"},
		{{"/opt/my app/bin/x", "-a"}, "x"},
		{{"./build/x"}, "x"},
		{{"/"}, "/"},
		{{"a\033[2Jb\n"}, "a?[2Jb?"},
		{{"a\xe2\x80\xa8\xe2\x80\xa9z"}, "a??z"},          /* ends of a line, a paragraph */
		{{"a\xe2\x80\x8e\xe2\x80\x8f\xd8\x9cz"}, "a???z"}, /* left to right and back */
		{{"caf\xc3\xa9"}, "caf\xc3\xa9"},
		{{"caf\xe9"}, "caf?"},
		{{"caf\xe9s \xc3\xa9"}, "caf?s \xc3\xa9"},
		/* the same as ESC [ in one character, and a mark that turns what follows */
		{{"a\xc2\x9b"
		  "31mb"},
		 "a?31mb"},
		{{"a\xe2\x80\xaeyp.niart"}, "a?yp.niart"},
		/* 63 bytes are kept: 21 characters of three, and of these the last is cut */
		{{"xx\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5"
		  "\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6"
		  "\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad"
		  "\xa6\xe5\xad\xa6.py"},
		 "xx\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5"
		 "\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6"
		 "\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad\xa6\xe5\xad"
		 "\xa6"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char text[512], name[VAC_PROC_NAME_BYTES];
		size_t bytes = 0;

		for (size_t w = 0; w < 8 && names[i].words[w]; w++) {
			strcpy(text + bytes, names[i].words[w]);
			bytes += strlen(names[i].words[w]) + 1;
		}
		vac_proc_name(text, bytes, "comm", name);
		assert_string_equal(name, names[i].name);
	}
}

static void test_a_name_without_arguments(void **state)
{
	char name[VAC_PROC_NAME_BYTES], longest[9000];

	(void)state;
	vac_proc_name("", 0, "kworker/0:1", name);
	assert_string_equal(name, "kworker/0:1");
	vac_proc_name("", 0, "", name);
	assert_string_equal(name, "?");
	memset(longest, 'x', sizeof(longest));
	vac_proc_name(longest, sizeof(longest), "", name);
	assert_int_equal(strlen(name), VAC_PROC_NAME_BYTES - 1);
}

/* ---- whole processes ---- */

static int make_dir(void **state)
{
	(void)state;
	temp_dir_make();
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	temp_dir_remove();
	return 0;
}

#define STATUS "Uid:\t1000\t1000\t1000\t1000\nNSpid:\t4711\t17\nThreads:\t12\n"

static void write_process(void)
{
	temp_text("proc/4711/stat", "4711 (python3)" STAT_TAIL "\n");
	temp_text("proc/4711/status", STATUS);
	temp_text("proc/4711/comm", "python3\n");
	temp_write("proc/4711/cmdline", "python3\0train.py\0", 17);
	temp_text("proc/4711/statm", "1000 300 20 1 0 400 0\n");
	temp_mkdir("proc/4711/fd");
}

static void test_a_process(void **state)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	struct vac_proc proc;

	(void)state;
	write_process();
	assert_int_equal(vac_proc_read(temp_path(""), 4711, &proc), 0);
	assert_int_equal(proc.pid, 4711);
	assert_string_equal(proc.name, "train.py");
	assert_int_equal(proc.status.uid, 1000);
	assert_int_equal(proc.stat.start_ticks, 987654);
	assert_true(proc.rss_valid);
	assert_int_equal(proc.rss_bytes, 300 * page);
	assert_int_equal(vac_proc_read(temp_path(""), 4712, &proc), -ENOENT);
	temp_text("proc/4711/stat",
		  "4711 (python3) Z 1 4711 4711 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 "
		  "12 0 987654\n");
	assert_int_equal(vac_proc_read(temp_path(""), 4711, &proc), -ESRCH);
}

static void test_open_files_of_the_driver(void **state)
{
	struct vac_proc_nvidia has;

	(void)state;
	write_process();
	assert_int_equal(vac_proc_nvidia(temp_path(""), 4711, &has), 0);
	assert_int_equal(has.descriptors, 0);
	temp_symlink("/dev/null", "proc/4711/fd/0");
	temp_symlink("socket:[1]", "proc/4711/fd/1");
	temp_symlink("/dev/nvidiactl", "proc/4711/fd/2");
	temp_symlink("/dev/nvidia-uvm", "proc/4711/fd/3");
	temp_symlink("/dev/nvidia0", "proc/4711/fd/4");
	temp_symlink("/dev/nvidia0", "proc/4711/fd/5");
	temp_symlink("/dev/nvidia31", "proc/4711/fd/6");
	temp_symlink("/dev/nvidia99", "proc/4711/fd/7");
	temp_symlink("/dev/nvidia-uvm-tools", "proc/4711/fd/8");
	assert_int_equal(vac_proc_nvidia(temp_path(""), 4711, &has), 0);
	assert_int_equal(has.descriptors, 7);
	assert_true(has.uvm);
	assert_int_equal(has.gpus, (uint32_t)1 | (uint32_t)1 << 31);
	assert_int_equal(vac_proc_nvidia(temp_path(""), 4712, &has), -ENOENT);
	assert_int_equal(has.descriptors, 0);
}

static bool count_two(void *ctx, pid_t pid)
{
	int *count = ctx;

	assert_true(pid == 4711 || pid == 12 || pid == 13);
	return ++*count < 2;
}

static void test_each_process(void **state)
{
	int count = 0;

	(void)state;
	write_process();
	temp_mkdir("proc/12");
	temp_mkdir("proc/13");
	temp_mkdir("proc/self");
	temp_mkdir("proc/12x");
	assert_int_equal(vac_proc_each(temp_path(""), count_two, &count), 0);
	assert_int_equal(count, 2);
	assert_int_equal(vac_proc_each(temp_path("nowhere"), count_two, &count), -ENOENT);
}

/* ---- smaps ---- */

#define MAPPING(range, rest, rss, pss, clean, dirty, swap)                                         \
	range " " rest "\nSize: 4 kB\nKernelPageSize: 4 kB\nRss:  " rss " kB\nPss: " pss           \
	      " kB\nPss_Dirty: 1 kB\nShared_Clean: 7 kB\nPrivate_Clean: " clean                    \
	      " kB\nPrivate_Dirty:\t" dirty " kB\nReferenced: 9 kB\nSwap:  " swap                  \
	      " kB\nSwapPss: 5 kB\nTHPeligible: 0\nVmFlags: rd wr mr\n"

static const char smaps[] = MAPPING(
	"55d0a000-55d0b000", "r-xp 00000000 fe:01 1234       /usr/bin/python3.11", "4", "2", "1",
	"0", "0") MAPPING("55d0b000-55d2b000", "rw-p 00000000 00:00 0          [heap]", "100",
			  "100", "0", "100",
			  "20") MAPPING("7f000000-7f400000", "rw-p 00000000 00:00 0 ", "4096",
					"4096", "0", "4096",
					"0") MAPPING("7f400000-7f401000",
						     "rw-p 00000000 00:00 0 [anon:glibc: malloc]",
						     "4", "4", "0", "4", "0")
	MAPPING("7f500000-7f600000", "r--s 00000000 fe:01 77 /models/a b/model.safetensors", "512",
		"256", "0", "0",
		"0") MAPPING("7f600000-7f700000",
			     "r--p 00100000 fe:01 77 /models/a b/model.safetensors", "256", "128",
			     "0", "0", "0") MAPPING("7f700000-7f800000",
						    "rw-s 00000000 00:05 8 /dev/nvidia-uvm", "0",
						    "0", "0", "0", "0")
		MAPPING("7f800000-7f900000", "rw-s 00000000 00:05 9 /dev/zero (deleted)", "64",
			"32", "0", "0", "0") MAPPING("7f900000-7f901000",
						     "rw-s 00000000 00:17 5 /dev/shm/sem", "4", "1",
						     "0", "0", "0")
			MAPPING("7fa00000-7fa10000",
				"r-xp 00000000 fe:01 99 /lib/x86_64-linux-gnu/libc.so.6", "60", "3",
				"0", "4",
				"0") MAPPING("7fb00000-7fb10000",
					     "r-xp 00000000 fe:01 98 /opt/lib/libjemalloc.so.2",
					     "60", "60", "60", "0", "0")
				MAPPING("7ffd0000-7ffd2000",
					"rw-p 00000000 00:00 0          [stack]", "16", "16", "0",
					"16", "0") MAPPING("7ffd8000-7ffdc000",
							   "r--p 00000000 00:00 0          [vvar]",
							   "0", "0", "0", "0", "0")
					MAPPING("7ffe0000-7ffe1000",
						"rw-s 00000000 00:0e 2 anon_inode:[io_uring]", "4",
						"4", "0", "0", "0");

static void check_smaps(const struct vac_smaps *found)
{
	static const struct {
		enum vac_smaps_group group;
		uint32_t mappings;
		uint64_t size, rss, pss, own, swap; /* KiB */
	} want[] = {
		{VAC_SMAPS_ANONYMOUS, 2, 4096 + 4, 4100, 4100, 4100, 0},
		{VAC_SMAPS_HEAP, 1, 128, 100, 100, 100, 20},
		{VAC_SMAPS_STACK, 1, 8, 16, 16, 16, 0},
		{VAC_SMAPS_FILE, 3, 4 + 64 + 64, 124, 65, 65, 0},
		{VAC_SMAPS_WEIGHTS, 2, 2048, 768, 384, 0, 0},
		{VAC_SMAPS_SHARED, 2, 1028, 68, 33, 0, 0},
		{VAC_SMAPS_DRIVER, 1, 1024, 0, 0, 0, 0},
		{VAC_SMAPS_OTHER, 2, 20, 4, 4, 0, 0},
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		const struct vac_smaps_sum *sum = &found->groups[want[i].group];

		assert_int_equal(sum->mappings, want[i].mappings);
		assert_int_equal(sum->size_bytes, want[i].size * 1024);
		assert_int_equal(sum->rss_bytes, want[i].rss * 1024);
		assert_int_equal(sum->pss_bytes, want[i].pss * 1024);
		assert_int_equal(sum->private_bytes, want[i].own * 1024);
		assert_int_equal(sum->swap_bytes, want[i].swap * 1024);
	}
	assert_int_equal(found->total.mappings, 14);
	assert_int_equal(found->total.rss_bytes, 5180 * 1024);
	assert_int_equal(found->allocators, VAC_ALLOCATOR_GLIBC | VAC_ALLOCATOR_JEMALLOC);
	assert_int_equal(found->file_count, 1);
	assert_string_equal(found->files[0].path, "/models/a b/model.safetensors");
	assert_int_equal(found->files[0].size_bytes, 2 * MIB);
	assert_int_equal(found->files[0].rss_bytes, 768 * 1024);
}

static void test_smaps(void **state)
{
	struct vac_smaps found;

	(void)state;
	vac_smaps_init(&found);
	assert_int_equal(vac_smaps_take(&found, smaps, strlen(smaps)), strlen(smaps));
	check_smaps(&found);
}

/* In pieces of every size the result is the same. */
static void test_smaps_in_pieces(void **state)
{
	static struct vac_smaps found;
	const size_t bytes = strlen(smaps);

	(void)state;
	for (size_t piece = 100; piece < 400; piece++) {
		size_t from = 0, to = 0;

		vac_smaps_init(&found);
		while (from < bytes) {
			to = to + piece < bytes ? to + piece : bytes;
			from += vac_smaps_take(&found, smaps + from, to - from);
		}
		check_smaps(&found);
	}
}

static void test_broken_smaps(void **state)
{
	static const char *const texts[] = {
		"Rss: 4 kB\n", /* of no mapping */
		"no mapping at all\n",
		"7f00-7e00 rw-p 0 00:00 0\n",
		"7f00-8000\n",
		"7f00-8000 rw\n",
		"7f00-8000 rw-p 0 00:00\n",
		"7f00 8000 rw-p 0 00:00 0\n",
		"\n",
		"-\n",
	};
	struct vac_smaps found;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		vac_smaps_init(&found);
		assert_int_equal(vac_smaps_take(&found, texts[i], strlen(texts[i])),
				 strlen(texts[i]));
		assert_int_equal(found.total.mappings, 0);
		assert_int_equal(found.total.rss_bytes, 0);
	}
	/* Without its end a line is not taken. */
	vac_smaps_init(&found);
	assert_int_equal(vac_smaps_take(&found, "7f00-8000 rw-p 0 00:00 0", 24), 0);
	/* Sums do not wrap around. */
	for (int i = 0; i < 3; i++)
		vac_smaps_take(&found,
			       "0-ffffffffffffffff rw-p 0 00:00 0\nRss: 18014398509481983 kB\n",
			       58);
	assert_int_equal(found.total.size_bytes, UINT64_MAX);
}

/* ---- a look at one ---- */

static void test_look(void **state)
{
	struct vac_remedy remedies[VAC_LOOK_MOST_REMEDIES];
	static struct vac_look look;
	struct vac_error err;
	char text[64], gpus[VAC_GPUS_TEXT_BYTES];

	(void)state;
	write_process();
	temp_text("proc/4711/smaps", smaps);
	assert_int_equal(vac_look_at(temp_path(""), 4711, &look, &err), 0);
	assert_int_equal(look.smaps_error, 0);
	check_smaps(&look.smaps);
	assert_string_equal(look.command, "python3 train.py");
	assert_string_equal(vac_allocators_text(look.smaps.allocators, text), "jemalloc and glibc");
	assert_string_equal(vac_allocators_text(0, text), "not known");
	assert_string_equal(vac_gpus_text(0, gpus), "");
	assert_string_equal(vac_gpus_text(1u << 31 | 1, gpus), ", nvidia0, nvidia31");
	vac_gpus_text(UINT32_MAX, gpus); /* all 32 of them fit */
	assert_string_equal(gpus + strlen(gpus) - strlen(", nvidia30, nvidia31"),
			    ", nvidia30, nvidia31");
	assert_false(look.cached_valid[0]); /* its file is not there */
	/* 4 MiB of heap are not worth a word; VRAM is. */
	assert_int_equal(vac_look_remedies(&look, 5 * MIB, false, remedies), 1);
	assert_true(remedies[0].vram);
	assert_int_equal(remedies[0].bytes, 5 * MIB);
	assert_string_equal(remedies[0].command, "vacate park 4711");
	look.smaps.groups[VAC_SMAPS_HEAP].private_bytes = 100 * MIB;
	look.cached_valid[0] = true;
	look.cached_bytes[0] = 300 * MIB;
	assert_int_equal(vac_look_remedies(&look, 5 * MIB, false, remedies), 3);
	assert_string_equal(remedies[0].command, "vacate park 4711");
	assert_int_equal(remedies[1].bytes, 300 * MIB);
	assert_non_null(strstr(remedies[1].command, "nocache"));
	assert_string_equal(remedies[2].command, "mallctl(\"arena.4096.purge\", 0, 0, 0, 0)");
	assert_true(remedies[2].at_most);
	/* Parked: its VRAM is in RAM. */
	assert_int_equal(vac_look_remedies(&look, 0, true, remedies), 2);
	assert_string_equal(remedies[1].command, "vacate resume 4711");
	/* Of our own, by the server. */
	strcpy(look.proc.name, "vacate-worker");
	assert_int_equal(vac_look_remedies(&look, 5 * MIB, false, remedies), 3);
	assert_string_equal(remedies[0].command, "vacate unload MODEL");
}

static void test_look_at_nobody(void **state)
{
	static struct vac_look look;
	struct vac_error err;

	(void)state;
	temp_mkdir("proc");
	assert_int_equal(vac_look_at(temp_path(""), 4711, &look, &err), -ENOENT);
	assert_int_equal(err.code, VAC_E_NOT_FOUND);
	assert_string_equal(err.message, "there is no process 4711");
	write_process();
	assert_int_equal(vac_look_at(temp_path(""), 4711, &look, &err), 0);
	assert_int_equal(look.smaps_error, ENOENT);
	/* This process, live. */
	assert_int_equal(vac_look_at("", getpid(), &look, &err), 0);
	assert_int_equal(look.smaps_error, 0);
	assert_true(look.smaps.total.rss_bytes > 0);
	assert_string_equal(look.proc.name, "test_proc");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_status),
		cmocka_unit_test(test_broken_status),
		cmocka_unit_test(test_stat),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_a_name_without_arguments),
		cmocka_unit_test_setup_teardown(test_a_process, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_open_files_of_the_driver, make_dir,
						remove_dir),
		cmocka_unit_test_setup_teardown(test_each_process, make_dir, remove_dir),
		cmocka_unit_test(test_smaps),
		cmocka_unit_test(test_smaps_in_pieces),
		cmocka_unit_test(test_broken_smaps),
		cmocka_unit_test_setup_teardown(test_look, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_look_at_nobody, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
