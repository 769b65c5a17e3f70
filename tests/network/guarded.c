/* Computes convolutions of many shapes by `onednn.c` with every buffer between two pages that may not be touched.

   Exit code 0, or 1 after a line that names the first shape whose buffers were left. To be compiled with
   -DSOURCE='"path of onednn.c"'. */

#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define FILLING 0x7b
#define MAX_BUFFERS 8

typedef struct {
  char *mapped, *start;
  size_t size; /* of all that is mapped */
} Buffer;

static Buffer buffers[MAX_BUFFERS];
static char shape_in_words[200];

static void fail(const char *how) {
  dprintf(STDERR_FILENO, "%s: %s\n", shape_in_words, how);
  _exit(1);
}

/* Returns memory that ends where the page behind it begins; what its first page has before it is filled. */
static void *allocate(size_t bytes) {
  size_t inside = (bytes + PAGE - 1) / PAGE * PAGE;
  Buffer *b = buffers;
  while (b->start) b++;
  b->size = inside + 2 * PAGE;
  b->mapped = mmap(NULL, b->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (b->mapped == MAP_FAILED || mprotect(b->mapped + PAGE, inside, PROT_READ | PROT_WRITE)) fail("no memory");
  memset(b->mapped + PAGE, FILLING, inside);
  return b->start = b->mapped + PAGE + inside - bytes;
}

static void *allocate_aligned(size_t alignment, size_t bytes) { return allocate(bytes); } /* bytes: a multiple of it */

static void release(void *start) {
  for (Buffer *b = buffers; start && b < buffers + MAX_BUFFERS; b++) {
    if (b->start != start) continue;
    for (char *place = b->mapped + PAGE; place < b->start; place++)
      if (*place != FILLING) fail("was written before a buffer");
    munmap(b->mapped, b->size);
    b->start = NULL;
    return;
  }
  free(start);
}

#define CONVOLUTIONS_KEPT 1
#define aligned_alloc allocate_aligned
#define free release
#include SOURCE
#undef free

static void on_fault(int signal) { fail("a page beside a buffer was touched"); }

static void try(Shape s) {
  size_t pixels = s.batch * s.height * s.width, of_kernel = s.side * s.side * s.channels * s.out_channels;
  float *images = allocate(4 * pixels * s.channels), *outputs = allocate(4 * pixels * s.out_channels);
  float *kernel = allocate(4 * of_kernel), *given = s.is_gradient ? outputs : kernel;
  size_t given_size = s.is_gradient ? pixels * s.out_channels : of_kernel;
  snprintf(shape_in_words, sizeof shape_in_words, "images [%ld, %ld, %ld, %ld], kernel %ldx%ld to %ld, gradient %ld",
           (long)s.batch, (long)s.height, (long)s.width, (long)s.channels, (long)s.side, (long)s.side,
           (long)s.out_channels, (long)s.is_gradient);
  for (size_t i = 0; i < pixels * s.channels; i++) images[i] = i % 13 / 13.0f;
  for (size_t i = 0; i < given_size; i++) given[i] = i % 17 / 17.0f - 0.5f;
  release(workspace); /* so that it is as large as this shape needs, not as others did */
  workspace = NULL;
  workspace_bytes = 0;
  if (run(s, images, kernel, outputs) != dnnl_success) fail("was not computed");
  release(images);
  release(kernel);
  release(outputs);
}

int main(void) {
  int64_t batches[] = {64, 7}, sizes[] = {16, 5}, sides[] = {1, 3, 9}, channels[] = {1, 3, 8, 12, 16, 24, 33};
  int64_t out_channels[] = {8, 10, 16};
  signal(SIGSEGV, on_fault);
  if (!vlga_onednn_start(2)) return 2;
  int count = 0;
  for (int b = 0; b < 2; b++)
    for (int z = 0; z < 2; z++)
      for (int k = 0; k < 3; k++)
        for (int c = 0; c < 7; c++)
          for (int o = 0; o < 3; o++)
            for (int gradient = 0; gradient < 2; gradient++, count++) {
              Shape s = {batches[b], sizes[z], sizes[z], channels[c], out_channels[o], sides[k], gradient, dnnl_f32};
              try(s);
            }
  printf("%d shapes, isa %d\n", count, vlga_onednn_isa());
  return 0;
}
